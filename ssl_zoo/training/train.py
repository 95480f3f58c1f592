"""`train(config)`: the only training loop, the same alone, under torchrun and in a cluster job.

It goes on from the newest good checkpoint of its run folder, so crash, Ctrl-C, preemption and
requeue are one path, exact to the step.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.collapse import effective_rank, feature_std
from ssl_zoo.method import METHODS, Batch, StepOutput
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, host
from ssl_zoo.runs.job import is_submitted
from ssl_zoo.runs.places import default_folder
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.runs.rng import rng_state, set_rng_state
from ssl_zoo.schedule import Progress
from ssl_zoo.training.alarms import COLLAPSE_ALARMS, AlarmBell
from ssl_zoo.training.build import (
    LoadedEpoch,
    build_loader,
    build_method,
    split_batch,
    to_batch,
    wrap,
)
from ssl_zoo.training.online import OnlineEvaluator
from ssl_zoo.training.outcome import Interrupted, NonFiniteLoss, remembered
from ssl_zoo.training.pace import Clock, steps_between_checks
from ssl_zoo.training.reporter import Reporter
from ssl_zoo.training.signals import StopRequest, by_weight, listen, weight

logger = logging.getLogger(__name__)

QUIET_PART = 0.1
"""Part of a run, from its start, in which no alarm goes off."""


def train(config: RunConfig, output: str | Path | None = None, *, bar: bool | None = None) -> Path:
    """Trains, or goes on training, and returns the run folder.

    Args:
        config: the run.
        output: run folder; `runs/METHOD-DATA-DIGEST` when not given.
        bar: whether to draw a progress bar; by default when standard error is a terminal.

    Raises:
        UserError: the config does not fit the data, the folder or the processes; the loss is not
            finite; a checkpoint cannot be written.
        Superseded: a later start of the same job trains in this folder.
        Interrupted: a signal asked to stop; everything is saved.
    """
    folder = RunFolder(output if output is not None else default_folder(config))
    with listen() as request, distributed.process_group() as device, ExitStack() as held:
        distributed.on_main(lambda: held.enter_context(folder.claim(config)))
        if distributed.broadcast_object(folder.is_complete):
            logger.info("'%s' is complete; nothing to do", folder.path)
            return folder.path
        with remembered(folder):
            trainer = Trainer(config, folder, device)
            # Only now: a config that cannot run leaves no trace.
            distributed.on_main(lambda: folder.begin(config))
            trainer.run(request, bar=bar)
    return folder.path


class Trainer:
    """One training run of one process; built from the config, then `run` once."""

    def __init__(self, config: RunConfig, folder: RunFolder, device: torch.device) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.dataset: Dataset = DATASETS.build(config.data, split="train")
        self.loader = build_loader(config, self.dataset, device)
        self.steps_per_epoch = self.loader.steps_per_epoch
        trains = METHODS[config.method.name].trains
        self.total_steps = config.epochs * self.steps_per_epoch if trains else 0
        if trains and config.schedule.warmup.steps(self.steps_per_epoch) >= self.total_steps:
            raise UserError(
                f"schedule.warmup of {config.schedule.warmup} is not shorter than the whole "
                f"run, which has {self.total_steps} optimizer steps"
            )
        torch.manual_seed(config.seed)
        self.method = build_method(config, self.dataset, self.loader.steps_per_epoch, device)
        self.wrapped = wrap(self.method, device)
        torch.manual_seed(config.seed + distributed.rank())
        groups = [dict(group) for group in self.method.param_groups()]
        self.optimizer = OPTIMIZERS.build(config.optimizer, params=groups)
        groups = self.optimizer.param_groups
        self._decay = {n: group["weight_decay"] for n, group in enumerate(groups)}
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.online = OnlineEvaluator(config, self.steps_per_epoch, device, self.dataset)
        self.step = 0
        self._said_slow = False
        self._agreed, self._interval = (0, time.monotonic()), 1
        self._provenance = provenance()  # now: the checkout may move on while the run goes on
        self._output: StepOutput | None = None
        self._bad_step = torch.full((), -1, device=device)  # first step whose loss was not finite

    def run(self, request: StopRequest, *, bar: bool | None = None) -> None:
        """Trains from the newest checkpoint to the end."""
        seconds_before = self._resume()
        if distributed.is_main():
            self.folder.history.add(
                Event(
                    "started",
                    step=self.step,
                    total_steps=self.total_steps,
                    world_size=distributed.world_size(),
                    host=host(),
                )
            )
        bell = AlarmBell(
            [*COLLAPSE_ALARMS, *self.method.alarms], quiet_steps=int(QUIET_PART * self.total_steps)
        )
        with Reporter(
            self.folder,
            total_steps=self.total_steps,
            start_step=self.step,
            seconds_before=seconds_before,
            bell=bell,
            bar=bar,
        ) as reporter:
            last = self.step == self.total_steps
            if not self.total_steps:
                self._save()
            if (self.step or last) and self.online.is_due(self.step, last=last):
                self._evaluate(reporter, request)  # a checkpoint is written before its evaluation
            clock = Clock(self.step)
            for batch in self._batches():
                progress = self._progress()
                lr = self._take_step(batch, progress)
                reporter.advance(self.step)
                self._finish_step(reporter, progress, lr, clock, request)
        if distributed.is_main():
            facts = {"step": self.step, "config_digest": self.config.digest()}
            self.folder.mark_complete({**facts, "provenance": self._provenance})
            self.folder.history.add(Event("complete", step=self.step))

    def _batches(self) -> Iterator[LoadedBatch]:
        while self.step < self.total_steps:
            epoch, start = divmod(self.step, self.steps_per_epoch)
            if start == 0:
                data = LoadedEpoch(self.loader, epoch, self.config, self.device)
                self.method.before_epoch(self._progress(), data)
            yield from self.loader.epoch(epoch, start)

    def _progress(self) -> Progress:
        return Progress(
            self.step, self.step // self.steps_per_epoch, self.total_steps, self.steps_per_epoch
        )

    def _schedule(self) -> float:
        """Sets the rates of this step; returns the learning rate."""
        peak, schedule = self.optimizer.defaults["lr"], self.config.schedule
        lr = schedule.lr(
            self.step,
            peak_lr=peak,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )
        for group in self.optimizer.param_groups:
            rate = peak if group.get("constant_lr") else lr
            group["lr"] = rate * group.get("lr_scale", 1.0)
        for number, start in self._decay.items():
            if start:  # a group without weight decay keeps having none
                self.optimizer.param_groups[number]["weight_decay"] = schedule.weight_decay(
                    self.step, start=start, total_steps=self.total_steps
                )
        return lr

    def _take_step(self, loaded: LoadedBatch, progress: Progress) -> float:
        lr = self._schedule()
        self.method.before_step(progress)
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_batch(to_batch(loaded, self.config, self.device), self.config.accumulate)
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            with nullcontext() if last else self._no_sync():
                self._output = self._forward(part, progress)
                self._note_bad_loss(self._output.loss)
                loss: Any = self.scaler.scale(self._output.loss / len(parts))
                loss.backward()
        self.method.after_backward(progress)
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.method.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.after_step(progress)
        self.step += 1
        return lr

    def _forward(self, batch: Batch, progress: Progress) -> StepOutput:
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[
            self.config.precision
        ]
        with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            output: StepOutput = self.wrapped(batch, progress)
        return output

    def _no_sync(self) -> Any:
        return self.wrapped.no_sync() if distributed.world_size() > 1 else nullcontext()  # type: ignore[operator]

    def _note_bad_loss(self, loss: Tensor) -> None:
        bad = ~torch.isfinite(loss.detach()) & (self._bad_step < 0)
        self._bad_step = torch.where(bad, self.step + 1, self._bad_step)

    def _note_bad_weights(self) -> None:
        """A finite loss may have a gradient that is not; such weights must not be saved."""
        finite = torch.stack([torch.isfinite(p).all() for p in self.method.parameters()]).all()
        bad = ~finite & (self._bad_step < 0)
        self._bad_step = torch.where(bad, self.step, self._bad_step)

    def _finish_step(
        self,
        reporter: Reporter,
        progress: Progress,
        lr: float,
        clock: "Clock",
        request: StopRequest,
    ) -> None:
        """After a step: log, stop on trouble, evaluate, save, and leave when asked to."""
        last = self.step == self.total_steps
        logs = self.step % self.config.log_every == 0 or last
        saves = last or self._is_due(self.config.checkpoint.every)
        evaluates = self.online.is_due(self.step, last=last)
        checks = logs or saves or evaluates or self.device.type == "cpu"
        signum = 0
        if saves:
            self._note_bad_weights()
        if checks or self.step - self._agreed[0] >= self._interval:
            signum = self._agree(request, saves=saves)
        if signum and not saves:  # what is about to be saved must be finite too
            self._note_bad_weights()
            self._agree(request, saves=True)
        if logs:
            reporter.log(self.step, progress.epoch, "train", self._metrics(lr, clock))
        if saves or signum:
            self._save()  # before evaluating, which takes longer than a launcher waits
        if signum and (evaluates or not last):
            raise self._interrupted(signum)
        if evaluates:
            self._evaluate(reporter, request)
            clock.restart(self.step)

    def _evaluate(self, reporter: Reporter, request: StopRequest) -> None:
        """Scores the weights that were just saved; may be cut off, since a resumed run does it anew."""
        epoch = max(0, self.step - 1) // self.steps_per_epoch
        with request.raising(self._interrupted):
            found = self.online.evaluate(self.method)
        for prefix, scores in found:
            reporter.log(self.step, epoch, prefix, scores)

    def _interrupted(self, signum: int) -> Interrupted:
        return Interrupted(self.folder.path, self.step, signum)

    def _agree(self, request: StopRequest, *, saves: bool) -> int:
        """Lets all ranks act on the same step; returns the weightiest signal that any of them got.

        Raises:
            Superseded: this run goes on elsewhere.
            NonFiniteLoss: a rank's loss was not finite.
        """
        lost = distributed.is_main() and self.folder.ownership.is_lost(look=saves)
        (step, since), self._agreed = self._agreed, (self.step, time.monotonic())
        pace_ms = int(1000 * (self._agreed[1] - since) / max(1, self.step - step))
        own = torch.tensor([weight(request.signum), int(lost), pace_ms], device=self.device)
        flags = distributed.all_reduce(torch.cat([own, self._bad_step.long().view(1)]), "max")
        urgency, superseded, pace_ms, bad_step = (int(flag) for flag in flags.tolist())
        self._interval = steps_between_checks(pace_ms / 1000)  # the same on all ranks
        if superseded:
            raise self.folder.ownership.lost()
        if bad_step >= 0:
            ranks = distributed.all_gather_object(int(self._bad_step))
            where = ", ".join(str(rank) for rank, step in enumerate(ranks) if step >= 0)
            good = checkpoint.found(self.folder.checkpoints)
            kept = (
                f"the last good checkpoint is '{good[0]}'"
                if good
                else "no checkpoint was written yet"
            )
            raise NonFiniteLoss.everywhere(
                f"loss or weights are not finite at step {bad_step} on rank {where}; {kept}; lower "
                "optimizer.lr, lengthen schedule.warmup, set clip_norm, or use precision=fp32"
            )
        return by_weight(urgency)

    def _metrics(self, lr: float, clock: "Clock") -> dict[str, float]:
        assert self._output is not None
        features = self._output.features.float()
        values = {
            "loss": float(self._output.loss.detach()),
            "feature_std": feature_std(features),
            "effective_rank": effective_rank(features),
            **self._output.metrics(),
        }
        means = (
            distributed.all_reduce(
                torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
            )
            / distributed.world_size()
        )
        return {
            **dict(zip(values, means.tolist(), strict=True)),
            "lr": lr,
            "images_per_second": clock.rate(self.step, self.config.global_batch_size),
        }

    def _is_due(self, every: Any) -> bool:
        steps: int = every.steps(self.steps_per_epoch)
        return steps > 0 and self.step % steps == 0

    def _save(self) -> None:
        rank_state: dict[str, Any] = {
            "rng": rng_state(),
            "method": self.method.rank_state(),
            "buffers": dict(self.method.named_buffers()),
        }
        names = {id(module): name for name, module in self.method.named_modules()}
        begin = time.monotonic()
        checkpoint.save(
            self.folder.checkpoints,
            step=self.step,
            config=self.config.model_dump(mode="json"),
            model=self.method,
            optimizer={
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            },
            rank_state=rank_state,
            facts={
                "epoch": self.step / self.steps_per_epoch,
                "exported": names[id(self.method.exported)],
                "backbone": (self.method.exported_settings or self.config.backbone).model_dump(
                    mode="json"
                ),
                "image_size": self.config.image_size,
            },
            keep=self.config.checkpoint.keep,
            may_write=lambda: not self.folder.ownership.is_lost(),
        )
        self._warn_of_slow_saving(time.monotonic() - begin)

    def _warn_of_slow_saving(self, seconds: float) -> None:
        """Says once when a job is told too late that its time runs out."""
        notice = self.config.slurm.signal_delay_s
        if (
            is_submitted()
            and 3 * seconds > notice
            and not self._said_slow
            and distributed.is_main()
        ):
            self._said_slow = True
            logger.warning(
                "saving took %.0f s and slurm.signal_delay_s is %d: set it to %.0f or more, or a job "
                "may be ended before it has saved",
                seconds,
                notice,
                3 * seconds,
            )

    def _resume(self) -> float:
        """Restores the newest checkpoint; returns the seconds of training that lie before it."""
        # Rank 0 chooses, so that a slow network file system cannot make ranks choose differently.
        chosen: list[Path] = []

        def choose() -> None:
            chosen.extend(filter(None, [checkpoint.newest(self.folder.checkpoints)]))

        distributed.on_main(choose)
        path = distributed.broadcast_object(chosen[0] if chosen else None)
        state = checkpoint.load_state(path) if path is not None else None
        seconds = 0.0
        if distributed.is_main():
            seconds = self.folder.truncate_metrics(state.step if state else 0)
        if state is None:
            return seconds
        try:
            self.method.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"the checkpoint in '{self.folder.checkpoints}' does not fit this config: {reason}"
            ) from None
        self.scaler.load_state_dict(state.optimizer["scaler"])
        self.step = state.step
        self.method.load_rank_state([rank["method"] for rank in state.ranks])
        if len(state.ranks) == distributed.world_size():
            own = state.ranks[distributed.rank()]
            set_rng_state(own["rng"])
            for name, buffer in self.method.named_buffers():
                buffer.copy_(own["buffers"][name])
        else:
            logger.warning(
                "the run was saved by %d processes and goes on with %d: queues are dealt out anew, "
                "random states start anew",
                len(state.ranks),
                distributed.world_size(),
            )
        logger.info("going on from step %d of %d", self.step, self.total_steps)
        return seconds
