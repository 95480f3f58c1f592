"""Communication between ranks after a step, so that all of them act at the same step."""

import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.outcome import NonFiniteLoss
from ssl_zoo.training.pace import steps_between_checks
from ssl_zoo.training.signals import StopRequest, by_weight, weight


@dataclass(frozen=True)
class Flags:
    """What a rank has observed since the last agreement; the largest value of all ranks counts.

    Attributes:
        signal: weight of the signal that asked to stop; 0 for none.
        superseded: 1 if another start of the run has taken over.
        pace_ms: duration of a step in milliseconds.
        busy: 1 if a checkpoint is being written.
        timed: 1 if the time to the next checkpoint has passed on rank 0.
        bad_step: first step whose loss or weights were not finite; -1 for none.
    """

    signal: int
    superseded: int
    pace_ms: int
    busy: int
    timed: int
    bad_step: int


class Agreement:
    """Makes all ranks stop, fail or leave at the same step.

    Args:
        folder: the run folder, which another start of the run may take over.
        device: device of the losses; recording one does not synchronise with it.
        settle: waits for a checkpoint in flight; called on all ranks before training fails.

    Attributes:
        busy: whether a rank was writing a checkpoint when they agreed last.
        timed: whether the time to the next checkpoint had passed then.
    """

    def __init__(
        self, folder: RunFolder, device: torch.device, settle: Callable[[], None] = lambda: None
    ) -> None:
        self._folder, self._device, self._settle = folder, device, settle
        self.busy = self.timed = False
        self._bad_step = torch.full((), -1, device=device)
        self._reached, self._interval = (0, time.monotonic()), 1

    def note_loss(self, loss: Tensor, step: int) -> None:
        """Records a step if its loss is not finite."""
        bad = ~torch.isfinite(loss.detach()) & (self._bad_step < 0)
        self._bad_step = torch.where(bad, step, self._bad_step)

    def note_weights(self, parameters: Iterable[nn.Parameter], step: int) -> None:
        """Records a step if weights are not finite, since a finite loss can have a non-finite
        gradient."""
        finite = torch.stack([torch.isfinite(p).all() for p in parameters]).all()
        bad = ~finite & (self._bad_step < 0)
        self._bad_step = torch.where(bad, step, self._bad_step)

    def is_due(self, step: int) -> bool:
        """Returns whether ranks should agree after this step even if nothing else requires it."""
        return step - self._reached[0] >= self._interval

    def reach(
        self,
        step: int,
        request: StopRequest,
        *,
        look: bool,
        busy: bool = False,
        timed: bool = False,
    ) -> int:
        """Returns the most important signal that any rank received; all ranks must call it after the
        same step.

        Args:
            look: whether to check the owner of the folder now, as before a save.
            busy: whether this rank is writing a checkpoint.
            timed: whether the time to the next checkpoint has passed; of rank 0, it counts.

        Raises:
            Superseded: another start of the run has taken over.
            NonFiniteLoss: the loss or weights of a rank were not finite.
        """
        moved = step > self._reached[0]  # else the pace is not known again
        own = self._own(step, request, look=look, busy=busy, timed=timed)
        packed = torch.tensor(astuple(own), device=self._device)
        packed[-1] = self._bad_step  # on the device; reading it here would wait for the step
        flags = Flags(*map(int, distributed.all_reduce(packed, "max").tolist()))
        if moved:
            self._interval = steps_between_checks(flags.pace_ms / 1000)  # the same on all ranks
        self.busy, self.timed = bool(flags.busy), bool(flags.timed)
        if flags.superseded:
            raise self._folder.ownership.lost()
        if flags.bad_step >= 0:
            raise self._not_finite(flags.bad_step)
        return by_weight(flags.signal)

    def _own(
        self, step: int, request: StopRequest, *, look: bool, busy: bool, timed: bool
    ) -> Flags:
        lost = distributed.is_main() and self._folder.ownership.is_lost(look=look)
        (before, since), self._reached = self._reached, (step, time.monotonic())
        pace_ms = int(1000 * (self._reached[1] - since) / max(1, step - before))
        timed = timed and distributed.is_main()
        return Flags(
            weight(request.signum), int(lost), pace_ms, int(busy), int(timed), bad_step=-1
        )

    def _not_finite(self, bad_step: int) -> NonFiniteLoss:
        self._settle()
        ranks = distributed.all_gather_object(int(self._bad_step))
        where = ", ".join(str(rank) for rank, step in enumerate(ranks) if step >= 0)
        good = checkpoint.found(self._folder.checkpoints)
        kept = (
            f"the last good checkpoint is '{good[0]}'" if good else "no checkpoint was written yet"
        )
        return NonFiniteLoss.everywhere(
            f"loss or weights are not finite at step {bad_step} on rank {where}; {kept}; lower "
            "optimizer.lr, lengthen schedule.warmup, set clip_norm, or use precision=fp32"
        )
