"""The state of a training run, which checkpoints save and restore."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.method import Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.arithmetic import changes
from ssl_zoo.runs.checkpoint import Facts, RunState, SharedState
from ssl_zoo.runs.checkpoint_writing import Content, Rules, Writing
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.job import is_submitted
from ssl_zoo.runs.rng import rng_state, set_rng_state
from ssl_zoo.training.same_data import TrainingData
from ssl_zoo.training.selection import Selection

logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Everything that changes from step to step, except random states.

    Attributes:
        step: number of optimizer steps taken.
        scaler: loss scaler for fp16.
        arithmetic: what the rounding of this process depends on.
        data: the training images.
        selection: the best scores so far.
    """

    config: RunConfig
    folder: RunFolder
    method: Method
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    steps_per_epoch: int
    arithmetic: dict[str, str]
    data: TrainingData
    selection: Selection
    step: int = 0
    warned_of_slow_saving: bool = False
    damaged: list[Path] = field(default_factory=list)
    """Checkpoints that were found damaged when this process resumed; known to rank 0."""
    writing: Writing | None = None
    """The checkpoint in flight."""
    saved_at: float = field(default_factory=time.monotonic)
    """When the newest checkpoint was begun, or this process; on this rank's clock."""

    def save(self, *, wait: bool = True) -> None:
        """Writes a checkpoint; all ranks must call it.

        Args:
            wait: whether it is whole when this returns; else it is written while training goes on, and
                `advance` publishes it.

        Raises:
            Superseded: another start of the run has taken over.
            UserError: the files cannot be written; or those of the checkpoint before.
        """
        self.settle()
        content = Content(
            self._facts(),
            self.method,
            optimizer={
                "step": self.step,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "selection": self.selection.state(),
            },
            rank={
                "step": self.step,
                "rng": rng_state(),
                "method": self.method.rank_state(),
                "buffers": dict(self.method.named_buffers()),
            },
        )
        rules = Rules(
            keep=self.config.checkpoint.keep,
            best=best.step if (best := self.selection.best) else None,
            may_write=lambda: not self.folder.ownership.is_lost(),
            damaged=self.damaged,
        )
        self.writing = Writing(self.folder.checkpoints, content, rules, background=not wait)
        self.saved_at = time.monotonic()
        self.damaged = []
        if wait:
            self.settle()

    def settle(self) -> None:
        """Waits until the checkpoint in flight is whole, if there is one; all ranks must call it.

        Raises:
            Superseded: another start of the run has taken over.
            UserError: the files cannot be written.
        """
        while self.writing is not None:
            self.advance()

    def advance(self) -> None:
        """Takes the checkpoint in flight a step further; all ranks must call it when none is busy.

        Raises:
            Superseded: another start of the run has taken over.
            UserError: the files cannot be written.
        """
        writing = self.writing
        if writing is None:
            return
        try:
            writing.advance()
        except BaseException:
            self.writing = None
            raise
        if writing.is_done:
            self.writing = None
            self._warn_of_slow_saving(writing.seconds)

    @property
    def is_busy(self) -> bool:
        """Whether this rank is writing a checkpoint."""
        return self.writing is not None and self.writing.is_busy

    def restore(self) -> float:
        """Restores the newest checkpoint and returns the training time before it in seconds.

        Raises:
            UserError: the checkpoint does not match the config, or all checkpoints are damaged; or the
                training data has changed.
        """
        path = self._newest()
        state = self._read(path) if path is not None else None
        self.data.check(state.manifest.data if state else None, step=state.step if state else 0)
        seconds = 0.0

        def truncate() -> None:
            nonlocal seconds
            self.folder.ownership.check()  # reading may have taken long
            seconds = self.folder.truncate_metrics(state.step if state else 0)

        distributed.on_main(truncate)
        if path is not None and state is not None:
            self._load(state)
            self._tell_of_other_arithmetic(state)
        return seconds

    def _facts(self) -> Facts:
        names = {id(module): name for name, module in self.method.named_modules()}
        backbone = self.method.exported_settings or self.config.backbone
        return Facts(
            self.step,
            config=self.config.model_dump(mode="json"),
            epoch=self.step / self.steps_per_epoch,
            exported=names[id(self.method.exported)],
            backbone=backbone.model_dump(mode="json"),
            image_size=self.config.image_size,
            arithmetic=self.arithmetic,
            data=self.data.record,
        )

    def _newest(self) -> Path | None:
        """Returns the checkpoint chosen by rank 0, because a slow file system may show fewer files to
        others."""
        chosen: Path | None = None

        def choose() -> None:
            nonlocal chosen
            chosen, self.damaged = checkpoint.newest_and_damaged(self.folder.checkpoints)

        distributed.on_main(choose)
        path: Path | None = distributed.broadcast_object(chosen)
        return path

    def _read(self, path: Path) -> RunState:
        """Reads a checkpoint that rank 0 has verified; each rank reads its own state, if as many saved it.

        Raises:
            UserError: a file cannot be read, or is of another step; raised on all ranks.
        """
        shared = distributed.from_main(
            lambda: checkpoint.load_shared(path, lambda key: not self.method.is_by_rank(key))
        )
        n_ranks, own = shared.manifest.world_size, distributed.rank()
        alike = n_ranks == distributed.world_size()
        wanted = [own] if alike else [*range(n_ranks)]
        problem, found = None, []
        try:
            found = checkpoint.load_ranks(path, shared.manifest, wanted)
            _check_steps(path, shared, dict(zip(wanted, found, strict=True)))
        except UserError as error:
            problem = str(error)
        distributed.raise_any(problem)
        if alike:
            found = [{**found[0], "method": {**found[0]["method"], **one}} for one in shared.ranks]
        return RunState(shared.manifest, shared.model, shared.optimizer, found)

    def _load(self, state: RunState) -> None:
        try:
            self.method.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"the checkpoint in '{self.folder.checkpoints}' does not match this config: {reason}"
            ) from None
        self.scaler.load_state_dict(state.optimizer["scaler"])
        self.selection.load(state.optimizer.get("selection", {}))
        self.step = state.step
        self.method.load_rank_state([rank["method"] for rank in state.ranks])
        if len(state.ranks) == distributed.world_size():
            own = state.ranks[distributed.rank()]
            set_rng_state(own["rng"])
            for name, buffer in self.method.named_buffers():
                buffer.copy_(own["buffers"][name])
        else:
            logger.warning(
                "the run was saved by %d processes and resumes with %d: queues are redistributed, "
                "random states are reset",
                len(state.ranks),
                distributed.world_size(),
            )

    def _tell_of_other_arithmetic(self, state: RunState) -> None:
        changed = changes(state.manifest.arithmetic, self.arithmetic)
        if changed and distributed.is_main():
            logger.warning(
                "the run resumes with other arithmetic (%s): its weights may differ in their last bits "
                "from those of a run without interruption; nothing else changes",
                changed,
            )

    def _warn_of_slow_saving(self, seconds: float) -> None:
        """Warns once if the signal before a job's time limit comes too late for saving."""
        notice = self.config.slurm.signal_delay_s
        if not is_submitted() or 3 * seconds <= notice or not distributed.is_main():
            return
        if not self.warned_of_slow_saving:
            self.warned_of_slow_saving = True
            logger.warning(
                "saving took %.0f s and slurm.signal_delay_s is %d: set it to %.0f or more, or a job "
                "may be killed before it has saved",
                seconds,
                notice,
                3 * seconds,
            )


def _check_steps(path: Path, shared: SharedState, ranks: dict[int, dict[str, Any]]) -> None:
    """Checks that the parts of a checkpoint that this rank has read are of the same step.

    Raises:
        UserError: the name of the folder, the manifest and the state disagree.
    """
    step = shared.manifest.step
    steps = {"its name": checkpoint.step_of(path), checkpoint.MANIFEST: step}
    parts = {checkpoint.OPTIMIZER: shared.optimizer}
    parts |= {f"rank-{rank}.pt": part for rank, part in ranks.items()}
    steps |= {name: part.get("step", step) for name, part in parts.items()}
    if len({*steps.values()}) > 1:
        said = ", ".join(f"{name} says {step}" for name, step in steps.items())
        raise UserError.everywhere(
            f"checkpoint '{path}' mixes steps ({said}); remove it to resume from the one before"
        )
