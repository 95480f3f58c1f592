"""`train(config)`: the training loop, for a single process, torchrun and cluster jobs.

It resumes from the newest intact checkpoint in the run folder, so crashes, Ctrl-C, preemption and
requeues are handled in the same way, exact to the step.
"""

import itertools
import logging
from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Scores
from ssl_zoo.evaluators.collapse import effective_rank, feature_std
from ssl_zoo.method import METHODS, Batch, StepOutput
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.arithmetic import arithmetic
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, host
from ssl_zoo.runs.places import default_folder
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.runs.rng import seed_everything
from ssl_zoo.schedule import Progress
from ssl_zoo.training.agreement import Agreement
from ssl_zoo.training.alarms import bell_of, hear_again
from ssl_zoo.training.announcements import say_end, say_start
from ssl_zoo.training.build import (
    LoadedEpoch,
    build_loader,
    build_method,
    check_durations,
    split_batch,
    to_batch,
    wrap,
)
from ssl_zoo.training.due import Due
from ssl_zoo.training.initial import Freezing, initial_weights, scaled_groups
from ssl_zoo.training.kept_decoded import keep_all_decoded
from ssl_zoo.training.online import OnlineEvaluator
from ssl_zoo.training.outcome import Interrupted, remembered
from ssl_zoo.training.pace import Clock, peak_memory
from ssl_zoo.training.preview import draw
from ssl_zoo.training.rates import Rates
from ssl_zoo.training.reporter import Reporter
from ssl_zoo.training.same_data import TrainingData
from ssl_zoo.training.selection import Named, Selection
from ssl_zoo.training.signals import StopRequest, listen
from ssl_zoo.training.state import TrainingState
from ssl_zoo.training.tracking import Tracking, trackers_of

logger = logging.getLogger(__name__)


def train(
    config: RunConfig | str,
    output: str | Path | None = None,
    *,
    bar: bool | None = None,
    **settings: Any,
) -> Path:
    """Trains a run, or resumes it, and returns the run folder.

    Args:
        config: settings of the run; or a method or recipe, as in `train("swav@photos", data="photos",
            epochs=20)`.
        output: run folder; `runs/METHOD-DATA-DIGEST` by default.
        bar: whether to draw a progress bar; by default, if standard error is a terminal.
        settings: settings that differ from the recipe, such as `optimizer={"lr": 0.1}`.

    Raises:
        UserError: the config does not match the data, the folder or the number of processes; the loss is
            not finite; or a checkpoint cannot be written.
        Superseded: a later start of the same job is training in this folder.
        Interrupted: a signal requested a stop; everything is saved.
    """
    if isinstance(config, str):
        config = run_config(config, overrides=settings)
    elif settings:
        raise UserError(
            f"'{next(iter(settings))}' is given beside complete settings; set it there"
        )
    folder = RunFolder(output if output is not None else default_folder(config))
    with listen() as request, distributed.process_group() as device, ExitStack() as held:
        distributed.on_main(lambda: held.enter_context(folder.claim(config)))
        if distributed.broadcast_object(folder.is_complete):
            logger.info("'%s' is complete; nothing to do", folder.path)
            return folder.path
        with remembered(folder):
            trainer = Trainer(config, folder, device)
            trainer.prepare()
            # Written only now, so that an invalid config leaves no trace.
            distributed.on_main(lambda: folder.begin(config))
            trainer.run(request, bar=bar)
    return folder.path


class Trainer:
    """One process of a training run; `run` is called once."""

    def __init__(self, config: RunConfig, folder: RunFolder, device: torch.device) -> None:
        self.config, self.folder, self.device = config, folder, device
        self._trackers = trackers_of(config)
        dataset: Dataset = DATASETS.build(config.data, split="train")
        self.loader = build_loader(config, dataset, device)
        self.steps_per_epoch = self.loader.steps_per_epoch
        trains = METHODS[config.method.name].trains
        self.total_steps = config.epochs * self.steps_per_epoch if trains else 0
        if trains and config.schedule.warmup.steps(self.steps_per_epoch) >= self.total_steps:
            raise UserError(
                f"schedule.warmup of {config.schedule.warmup} is not shorter than the "
                f"run, which has {self.total_steps} optimizer steps"
            )
        initial = initial_weights(config, folder)
        seed_everything(config.seed)
        self.method = build_method(config, dataset, self.steps_per_epoch, device, initial=initial)
        check_durations(config, self.method)
        self.freezing = Freezing(config.init, self.method.backbone)
        self.wrapped = wrap(self.method, device)
        seed_everything(config.seed + distributed.rank())
        groups = [dict(group) for group in self.method.param_groups()]
        if config.init is not None and config.init.layer_decay is not None:
            groups = scaled_groups(groups, self.method.backbone, config.init.layer_decay)
        self.optimizer = OPTIMIZERS.build(config.optimizer, params=groups)
        self.rates = Rates(self.optimizer, config.schedule)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        data: Any = config.data
        self.selection = Selection(config, folder)
        self.state = TrainingState(
            config,
            folder,
            self.method,
            self.optimizer,
            self.scaler,
            self.steps_per_epoch,
            arithmetic=arithmetic(device, views_by=self.loader.views_by),
            data=TrainingData(dataset, accepts_changes=data.changed == "accept"),
            selection=self.selection,
        )
        self.agreement = Agreement(folder, device)
        self.online = OnlineEvaluator(
            config,
            self.steps_per_epoch,
            device,
            dataset,
            num_workers=self.loader.grant.num_workers,
        )
        self._provenance = provenance()  # now, as the checkout may change during training
        self._clock = Clock(0)
        self._output: StepOutput | None = None
        self._before: list[tuple[str, Scores]] = []  # scores of the untrained network

    def keep_decoded(self) -> None:
        """Keeps the images decoded that are read more than once, if they fit; all ranks must call it."""
        read = [self.loader.dataset, *self.online.datasets]
        if self.total_steps:
            keep_all_decoded({id(one): one for one in read}.values())

    @property
    def step(self) -> int:
        """Number of optimizer steps taken."""
        return self.state.step

    def prepare(self) -> None:
        """Scores the network before training, unless the run resumes; all ranks must call it.

        Raises:
            UserError: the settings name a score that this run does not measure.
        """
        self.keep_decoded()
        resumes = distributed.broadcast_object(bool(checkpoint.found(self.folder.checkpoints)))
        if resumes or not self.total_steps:
            return
        if self.online.is_on:
            self._before = self.online.evaluate(self.method)
        scores, self.selection.first = self._named(self._before)
        self.selection.check(scores)

    def run(self, request: StopRequest, *, bar: bool | None = None) -> None:
        """Trains from the newest checkpoint to the end."""
        seconds_before = self.state.restore()
        if self.step > self.total_steps:
            raise UserError.everywhere(
                f"the checkpoint in '{self.folder.checkpoints}' is of step {self.step}, but with these "
                f"data the run has {self.total_steps} steps; restore the data, or use another --output"
            )
        if self.total_steps:
            say_start(self.config, self.folder, self.method, self.loader, from_step=self.step)
        self._note(
            Event(
                "started",
                step=self.step,
                total_steps=self.total_steps,
                world_size=distributed.world_size(),
                host=host(),
            )
        )
        bell = bell_of(self.method.alarms, self.total_steps)
        if self.step and distributed.is_main():
            hear_again(bell, self.folder.metrics())
        with Reporter(
            self.folder,
            total_steps=self.total_steps,
            start_step=self.step,
            seconds_before=seconds_before,
            bell=bell,
            tracking=self._tracking(),
            bar=bar,
        ) as reporter:
            if not self.total_steps:
                self.state.save()
            if self._due().evaluates:
                self._evaluate(
                    reporter, request
                )  # the checkpoint was written before its evaluation
            elif self.step == 0:
                for prefix, found in self._before:
                    reporter.log(0, 0, prefix, found.values, headline=found.headline)
            if not self.selection.why_stopped:
                self._train(reporter, request)
        distributed.on_main(self._mark_complete)
        self._note(Event("complete", step=self.step, reason=self.selection.why_stopped or None))
        if distributed.is_main() and self.total_steps:
            speed = self._clock.summary(sum(self.config.view_counts.values()))
            say_end(
                self.selection,
                self.step,
                seconds=reporter.seconds,
                speed=speed,
                warned=reporter.warned,
            )

    def _tracking(self) -> Tracking | None:
        """Opens the trackers on rank 0."""
        if not distributed.is_main():
            return None
        return Tracking(
            self.config,
            self.folder,
            self._trackers,
            start_step=self.step,
            sheet=lambda n: draw(self.loader.dataset, self.loader.first(n)),
        )

    def _train(self, reporter: Reporter, request: StopRequest) -> None:
        """Takes the remaining steps, as long as the scores improve."""
        self._clock.restart(self.step)
        with closing(self._batches()) as batches:
            for batch in batches:
                progress = self._progress()
                self._take_step(batch, progress)
                reporter.advance(self.step)
                self._finish_step(reporter, progress, request)
                if self.selection.why_stopped:
                    return

    def losses(self, *, again: bool = False) -> Generator[float]:
        """Takes one step after the other without logging or saving, and yields the loss of each.

        Args:
            again: whether all steps see the first batch, so that none waits for the next.
        """
        with closing(self._batches()) as batches:
            for batch in itertools.repeat(next(batches)) if again else batches:
                self._take_step(batch, self._progress())
                assert self._output is not None
                yield float(self._output.loss.detach())

    def _mark_complete(self) -> None:
        self.folder.ownership.check()
        facts = {"step": self.step, "config_digest": self.config.digest()}
        if self.selection.why_stopped:
            facts["stopped_early"] = self.selection.why_stopped
        if self.selection.best is not None:
            facts["best"] = asdict(self.selection.best)
        self.folder.mark_complete({**facts, "provenance": self._provenance})

    def _note(self, event: Event) -> None:
        """Adds an event to the history, on rank 0."""
        if distributed.is_main():
            self.folder.history.add(event)

    def _batches(self) -> Generator[LoadedBatch]:
        """Yields the batches of the remaining steps; loader processes end when it is closed."""
        with closing(self.loader.stream(self.step, self.total_steps)) as stream:
            batches = self._clock.waiting(stream)
            while self.step < self.total_steps:
                epoch, start = divmod(self.step, self.steps_per_epoch)
                if start == 0:
                    data = LoadedEpoch(self.loader, epoch, self.config, self.device)
                    self.method.before_epoch(self._progress(), data)
                yield next(batches)

    def _progress(self) -> Progress:
        return Progress(
            self.step, self.step // self.steps_per_epoch, self.total_steps, self.steps_per_epoch
        )

    def _take_step(self, loaded: LoadedBatch, progress: Progress) -> None:
        self.rates.set(progress)
        self.method.before_step(progress)
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_batch(to_batch(loaded, self.config, self.device), self.config.accumulate)
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            with nullcontext() if last else self._no_sync():
                self._output = self._forward(part, progress)
                self.agreement.note_loss(self._output.loss, self.step + 1)
                loss: Any = self.scaler.scale(self._output.loss / len(parts))
                loss.backward()
        self.method.after_backward(progress)
        self.freezing.apply(progress)
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.method.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.after_step(progress)
        self.method.commit(progress)
        self.state.step += 1

    def _forward(self, batch: Batch, progress: Progress) -> StepOutput:
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[
            self.config.precision
        ]
        with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            output: StepOutput = self.wrapped(batch, progress)
        return replace(output, features=output.features[: batch.n_global * batch.n_images])

    def _no_sync(self) -> Any:
        return self.wrapped.no_sync() if distributed.world_size() > 1 else nullcontext()  # type: ignore[operator]

    def _due(self) -> Due:
        """Returns what is due after this step."""
        last = self.step == self.total_steps
        every = self.config.checkpoint.every.steps(self.steps_per_epoch)
        evaluates = (self.step > 0 or last) and self.online.is_due(self.step, last=last)
        return Due(
            last=last,
            logs=last or self.step % self.config.log_every == 0,
            # What is scored is saved first: an evaluation may be interrupted.
            saves=last or evaluates or (every > 0 and self.step % every == 0),
            evaluates=evaluates,
        )

    def _finish_step(self, reporter: Reporter, progress: Progress, request: StopRequest) -> None:
        """Logs, saves and evaluates after a step, and raises if training must end."""
        due = self._due()
        signum = self._agree(due, request)
        if due.logs:
            reporter.log(self.step, progress.epoch, "train", self._metrics())
        if due.saves or signum:
            with (
                self._clock.saving()
            ):  # before evaluation, which may take longer than a launcher waits
                self.state.save()
        if signum and (due.evaluates or not due.last):
            raise self._interrupted(signum)
        if due.evaluates:
            self._evaluate(reporter, request)
            self._clock.restart(self.step)

    def _agree(self, due: Due, request: StopRequest) -> int:
        """Returns the signal on which all ranks stop after this step, 0 for none."""
        signum = 0
        if due.saves:
            self.agreement.note_weights(self.method.parameters(), self.step)
        if due.any or self.device.type == "cpu" or self.agreement.is_due(self.step):
            signum = self.agreement.reach(self.step, request, look=due.saves)
        if signum and not due.saves:  # only finite weights may be saved
            self.agreement.note_weights(self.method.parameters(), self.step)
            self.agreement.reach(self.step, request, look=True)
        return signum

    def _evaluate(self, reporter: Reporter, request: StopRequest) -> None:
        """Scores the weights just saved; may be interrupted, as a resumed run scores them again."""
        epoch = max(0, self.step - 1) // self.steps_per_epoch
        with request.raising(self._interrupted):
            found = self.online.evaluate(self.method)
        for prefix, scores in found:
            reporter.log(self.step, epoch, prefix, scores.values, headline=scores.headline)
        if self.total_steps:
            self.selection.note(self.step, *self._named(found))

    def _named(self, found: list[tuple[str, Scores]]) -> tuple[Named, Named]:
        """Returns all scores by full name, and the headlines of evaluators that use labels."""
        every = {f"{key}/{name}": value for key, s in found for name, value in s.values.items()}
        headlines = [f"{key}/{s.headline}" for key, s in found if self.online.needs_labels(key)]
        return every, {name: every[name] for name in headlines if name in every}

    def _interrupted(self, signum: int) -> Interrupted:
        return Interrupted(self.folder.path, self.step, signum)

    def _queue_ages(self) -> dict[str, float]:
        """Returns how stale the queue is, if there is a full one."""
        ages = [memory.age_share() for memory in self.method.memories().values()]
        known = [age for age in ages if age is not None]
        return {"queue_age_share": max(known)} if known else {}

    def _metrics(self) -> dict[str, float]:
        assert self._output is not None
        features = self._output.features.float()
        values = {
            "loss": float(self._output.loss.detach()),
            "feature_std": feature_std(features),
            "effective_rank": effective_rank(features),
            **self._output.metrics(),
            **self._queue_ages(),
        }
        means = (
            distributed.all_reduce(
                torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
            )
            / distributed.world_size()
        )
        scale = {"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {}
        return {
            **dict(zip(values, means.tolist(), strict=True)),
            "lr": self.rates.lr,
            **scale,
            **self._clock.read(self.step, self.config.global_batch_size),
            **peak_memory(self.device),
        }
