"""`train(config)`: the training loop, for a single process, torchrun and cluster jobs.

What one step does to the weights is in `update`; what is logged, in `reporter` and `tracking`; what is saved,
in `state`.

It resumes from the newest intact checkpoint in the run folder, so crashes, Ctrl-C, preemption and
requeues are handled in the same way, exact to the step.
"""

import itertools
import logging
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ssl_zoo import distributed
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Scores
from ssl_zoo.method import METHODS
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
)
from ssl_zoo.training.due import Due
from ssl_zoo.training.initial import initial_weights
from ssl_zoo.training.kept_decoded import keep_all_decoded
from ssl_zoo.training.kernels import kernels
from ssl_zoo.training.online import OnlineEvaluator
from ssl_zoo.training.outcome import Interrupted, remembered
from ssl_zoo.training.pace import Clock, peak_memory
from ssl_zoo.training.reporter import Reporter
from ssl_zoo.training.same_data import TrainingData
from ssl_zoo.training.selection import Selection
from ssl_zoo.training.signals import StopRequest, listen
from ssl_zoo.training.state import TrainingState
from ssl_zoo.training.tracking import open_tracking, trackers_of
from ssl_zoo.training.update import Update

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
        with remembered(folder), kernels(device, deterministic=config.deterministic):
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
        self.total_steps = config.total_steps(self.steps_per_epoch) if trains else 0
        if trains and config.schedule.warmup.steps(self.steps_per_epoch) >= self.total_steps:
            raise UserError(
                f"schedule.warmup of {config.schedule.warmup} is not shorter than the "
                f"run, which has {self.total_steps} optimizer steps"
            )
        initial = initial_weights(config, folder)
        seed_everything(config.seed)
        self.method = build_method(config, dataset, self.steps_per_epoch, device, initial=initial)
        check_durations(config, self.method)
        self.update = Update(config, self.method, device)
        seed_everything(config.seed + distributed.rank())
        data: Any = config.data
        self.selection = Selection(config, folder)
        self.state = TrainingState(
            config,
            folder,
            self.method,
            self.update.optimizer,
            self.update.scaler,
            self.steps_per_epoch,
            arithmetic=arithmetic(
                device,
                views_by=self.loader.views_by,
                deterministic=config.deterministic,
                compiled=config.compile,
            ),
            data=TrainingData(dataset, accepts_changes=data.changed == "accept"),
            selection=self.selection,
        )
        self.agreement = Agreement(folder, device, self.state.settle)
        self.online = OnlineEvaluator(
            config,
            self.steps_per_epoch,
            device,
            dataset,
            num_workers=self.loader.grant.num_workers,
        )
        self._provenance = provenance()  # now, as the checkout may change during training
        self._clock = Clock(0)
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
        scores, self.selection.first = self.online.named(self._before)
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
            tracking=open_tracking(
                self.config, self.folder, self._trackers, self.loader, start_step=self.step
            ),
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

    def _train(self, reporter: Reporter, request: StopRequest) -> None:
        """Takes the remaining steps, as long as the scores improve."""
        self._clock.restart(self.step)
        with closing(self._batches()) as batches, self._settled():
            for batch in batches:
                progress = self._progress()
                self._take_step(batch, progress)
                reporter.advance(self.step)
                self._finish_step(reporter, progress, request)
                if self.selection.why_stopped:
                    return

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Does not lose the checkpoint in flight if training fails in a single process.

        Other ranks may not know of the failure, so they cannot publish it together.
        """
        try:
            yield
        except Exception:
            if distributed.world_size() == 1:
                try:
                    self.state.settle()
                except UserError as error:
                    logger.warning("%s", error)
            raise

    def losses(self, *, again: bool = False) -> Generator[float]:
        """Takes one step after the other without logging or saving, and yields the loss of each.

        Args:
            again: whether all steps see the first batch, so that none waits for the next.
        """
        with closing(self._batches()) as batches:
            for batch in itertools.repeat(next(batches)) if again else batches:
                self._take_step(batch, self._progress())
                yield self.update.loss

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
        self.update.take(loaded, progress, self.agreement)
        self.state.step += 1

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
        signum, saves = self._agree(due, request)
        if due.logs:
            reporter.log(self.step, progress.epoch, "train", self._metrics())
        if saves or signum:
            # Whole before evaluation, which may be interrupted, and before the process ends.
            wait = due.last or due.evaluates or bool(signum)
            with self._clock.saving():
                self.state.save(wait=wait)
        if signum and (due.evaluates or not due.last):
            raise self._interrupted(signum)
        if due.evaluates:
            self._evaluate(reporter, request)
            self._clock.restart(self.step)

    def _agree(self, due: Due, request: StopRequest) -> tuple[int, bool]:
        """Returns the signal on which all ranks stop after this step, 0 for none; and whether to save."""
        signum, saves = 0, due.saves
        if due.saves:
            self.agreement.note_weights(self.method.parameters(), self.step)
        if due.any or self.device.type == "cpu" or self.agreement.is_due(self.step):
            signum = self.agreement.reach(
                self.step,
                request,
                look=due.saves,
                busy=self.state.is_busy,
                timed=self._is_time_to_save(),
            )
            saves = saves or self.agreement.timed
            if not self.agreement.busy:
                with self._clock.saving():
                    self.state.advance()
        if (signum or saves) and not due.saves:  # only finite weights may be saved
            self.agreement.note_weights(self.method.parameters(), self.step)
            self.agreement.reach(self.step, request, look=True)
        return signum, saves

    def _is_time_to_save(self) -> bool:
        seconds = self.config.checkpoint.every.seconds
        return 0 < seconds <= time.monotonic() - self.state.saved_at

    def _evaluate(self, reporter: Reporter, request: StopRequest) -> None:
        """Scores the weights just saved; may be interrupted, as a resumed run scores them again."""
        epoch = max(0, self.step - 1) // self.steps_per_epoch
        with request.raising(self._interrupted):
            found = self.online.evaluate(self.method)
        for prefix, scores in found:
            reporter.log(self.step, epoch, prefix, scores.values, headline=scores.headline)
        if self.total_steps:
            self.selection.note(self.step, *self.online.named(found))

    def _interrupted(self, signum: int) -> Interrupted:
        return Interrupted(self.folder.path, self.step, signum)

    def _metrics(self) -> dict[str, float]:
        """Returns what is logged of the last step; all ranks must call it."""
        return {
            **self.update.metrics(),
            **self._clock.read(self.step, self.config.global_batch_size),
            **peak_memory(self.device),
        }
