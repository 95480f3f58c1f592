"""`submit`: puts runs and scoring jobs into folders and hands them to a launcher."""

import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_zoo.config import digest, dump_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import ScoringConfig
from ssl_zoo.evaluation.folder import ScoringFolder
from ssl_zoo.jobs.queue import Slurm, is_alive_here
from ssl_zoo.launch import sbatch, snapshot
from ssl_zoo.launch.entry import EvaluateJob, TrainJob
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History, host
from ssl_zoo.runs.places import default_folder, point_folder
from ssl_zoo.runs.slurm import SlurmConfig, resolve

logger = logging.getLogger(__name__)

Launcher = Literal["slurm", "local", "debug"]
CODE = "code"
SUBMIT = "submit"


@dataclass(frozen=True)
class Target:
    """One job: its folder, what it does, and how the folder is made."""

    path: Path
    job: TrainJob | EvaluateJob
    settings: str
    write: Callable[[], None]
    is_complete: bool

    @property
    def history(self) -> History:
        """What happened here before."""
        return History(self.path)


@dataclass(frozen=True)
class Plan:
    """What a submission will do: nothing has been written, and no launcher asked.

    Attributes:
        targets: what is to be done, without `skipped`.
        skipped: a folder and the reason for each target that needs no job.
        slurm: settings of the jobs.
        sources: where those settings come from.
        name: of the job in the queue.
        folder: where submitit writes.
    """

    targets: list[Target]
    skipped: list[tuple[Path, str]]
    slurm: SlurmConfig
    sources: list[str]
    name: str
    folder: Path

    @property
    def script(self) -> str:
        """The batch script, byte for byte what `sbatch` gets."""
        return sbatch.script(
            self.slurm,
            self.folder,
            name=self.name,
            setup=self.setup,
            n_points=len(self.targets),
        )

    @property
    def setup(self) -> list[str]:
        """Shell lines that make a job work where it was submitted, with the code of its folder."""
        if len(self.targets) == 1:
            code = snapshot.setup_lines(self.targets[0].path / CODE)
        else:
            code = snapshot.array_setup_lines(self.points_file)
        return [f"cd {shlex.quote(str(self.directory))}", *code]

    @property
    def directory(self) -> Path:
        """Where relative paths in settings begin: where the runs were submitted for the first time."""
        for target in self.targets:
            for event in target.history.read():
                if event.event == "submitted" and event.directory:
                    return Path(event.directory)
        return Path.cwd()

    @property
    def points(self) -> str:
        """The folders of code of an array's points, one a line."""
        return "".join(f"{target.path / CODE}\n" for target in self.targets)

    @property
    def points_file(self) -> Path:
        """Where the points of an array are written down; named after them."""
        return self.folder / f"points-{digest(self.points)}.txt"


def submit(
    config: RunConfig,
    slurm: SlurmConfig | None = None,
    *,
    output: str | Path | None = None,
    launcher: Launcher = "slurm",
) -> Path:
    """Submits a training run, or goes on with one that has stopped; returns its folder.

    Args:
        config: the run.
        slurm: settings of the job; by default those in the config over the site's default profile.
        output: run folder; `runs/METHOD-DATA-DIGEST` when not given.
        launcher: `slurm`, `local` (this machine, in the background) or `debug` (this process).

    Raises:
        UserError: the settings do not fit together, the folder is in use or belongs to another
            config, or the launcher refuses.
    """
    if slurm is not None:
        config = config.model_copy(update={"slurm": slurm})
    output = output if output is not None else default_folder(config)
    plan = plan_runs([config], [Path(output)], site=None if slurm is None else "")
    execute(plan, launcher)
    return Path(output)


def plan_runs(
    configs: Sequence[RunConfig], folders: Sequence[Path], *, site: str | None = None
) -> Plan:
    """Plans training runs: one job, or an array of several.

    Args:
        folders: a run folder for each config.
        site: profile or file with settings of SLURM below those of the configs; the site's default
            one when None, no further settings when empty.

    Raises:
        UserError: a batch cannot be split over the processes, or a folder belongs to another run.
    """
    slurm, sources = (configs[0].slurm, []) if site == "" else resolve(configs[0].slurm, site)
    targets = []
    for config, folder in zip(configs, folders, strict=True):
        if config.slurm != configs[0].slurm:
            raise UserError(
                "the points of a sweep are one array and share the settings under 'slurm'"
            )
        slurm.check_batch(config.global_batch_size, config.accumulate)
        targets.append(_training(config.model_copy(update={"slurm": slurm}), folder))
    return _plan(targets, slurm, sources)


def plan_scoring(
    config: ScoringConfig, folder: Path, *, after: Iterable[Path] = (), site: str | None = None
) -> Plan:
    """Plans a scoring job.

    Args:
        after: run folders whose jobs must have come to a good end before.
        site: as for `plan_runs`.

    Raises:
        UserError: one of the runs is neither complete nor submitted.
    """
    slurm, sources = resolve(config.slurm, site)
    waits_for = [job for run in after if (job := _job_to_wait_for(run)) is not None]
    if waits_for:
        given = [slurm.dependency] if slurm.dependency else []
        together = ",".join([*given, "afterok:" + ":".join(waits_for)])
        # Else the job would wait for ever for one that has failed.
        options = {"kill-on-invalid-dep": "yes", **slurm.additional_parameters}
        update = {"dependency": together, "additional_parameters": options}
        slurm = SlurmConfig.model_validate({**slurm.model_dump(), **update})
    scoring = ScoringFolder(folder.absolute())
    config = config.model_copy(update={"slurm": slurm})
    target = Target(
        path=scoring.path,
        job=EvaluateJob(str(scoring.path)),
        settings=dump_yaml(config),
        write=lambda: scoring.create(config),
        is_complete=scoring.is_complete,
    )
    return _plan([target], slurm, sources)


def sweep_folders(configs: Sequence[RunConfig], output: str | Path | None) -> list[Path]:
    """Returns the run folder of each point, named so that `compare --output` finds it."""
    parent = Path(output) if output is not None else default_folder(configs[0]).parent
    return [point_folder(parent, config) for config in configs]


def execute(plan: Plan, launcher: Launcher) -> list[str]:
    """Makes the folders and hands the jobs over; returns their numbers.

    Raises:
        UserError: the launcher refuses; folders that did not exist before are gone again.
    """
    for path, reason in plan.skipped:
        logger.info("'%s' is %s; not submitted", path, reason)
    if not plan.targets:
        return []
    if launcher == "local" and len(plan.targets) > 1:
        raise UserError(
            f"--launcher local starts one job, and these are {len(plan.targets)}; use --launcher debug "
            "to do them one after the other, or --launcher slurm"
        )
    new = [target.path for target in plan.targets if not target.path.exists()]
    try:
        _fill(plan)
        numbers = _hand_over(plan, launcher)
    except BaseException:
        for path in new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    for target, number in zip(plan.targets, numbers, strict=True):
        _note(target, number, launcher, plan)
    for target, number in zip(plan.targets, numbers, strict=True):
        _link_logs(target, number, plan)
    if launcher == "debug":
        for target in plan.targets:
            target.job()
    return [number for number in numbers if number is not None]


def _training(config: RunConfig, folder: Path) -> Target:
    run = RunFolder(folder.absolute())
    run.check(config)
    return Target(
        path=run.path,
        job=TrainJob(str(run.path)),
        settings=dump_yaml(config),
        write=lambda: _write(run, config),
        is_complete=run.is_complete,
    )


def _write(run: RunFolder, config: RunConfig) -> None:
    """Writes the settings, unless a process trains here or has trained something else meanwhile."""
    with run.lock():
        run.check(config)
        run.create(config)


def _plan(targets: list[Target], slurm: SlurmConfig, sources: list[str]) -> Plan:
    states = _states(targets)
    pending = [target for target in targets if target.path not in states]
    if len(targets) == 1:
        path = targets[0].path
        if path in states and not targets[0].is_complete:
            raise UserError(
                f"'{path}' is {states[path]}; see ssl-zoo jobs {path}, or end it with ssl-zoo cancel"
            )
    alone = len(pending) == 1
    place = pending[0].path if alone else targets[0].path.parent
    return Plan(
        targets=pending,
        skipped=list(states.items()),
        slurm=slurm,
        sources=sources,
        name=place.name,
        folder=place / SUBMIT,
    )


def _states(targets: list[Target]) -> dict[Path, str]:
    """Returns why a target needs no job: it is complete, or it has one."""
    found = {target.path: "complete" for target in targets if target.is_complete}
    jobs = {}
    for target in targets:
        last = _submitted(target.history)
        if target.path not in found and last is not None and last.job:
            jobs[target.path] = (last.job, last)
    slurm = Slurm()
    at_slurm = slurm.look(job for job, last in jobs.values() if last.launcher == "slurm")
    for path, (number, last) in jobs.items():
        is_elsewhere = last.launcher == "local" and last.host != host()
        if is_elsewhere or (last.launcher == "slurm" and slurm.is_silent):
            _must_have_ended(path, last, slurm.problems.get("squeue", ""))
            continue
        if last.launcher == "local":
            alive = is_alive_here(number, path)
            state = "running" if alive else ""
        else:
            job = at_slurm.get(number)
            state = job.state.lower() if job is not None and job.is_active else ""
        if state:
            found[path] = f"{state} as job {number}"
    return found


def _must_have_ended(path: Path, submitted: Event, silence: str) -> None:
    """Sees from its history that a job is over which cannot be asked for.

    Raises:
        UserError: it may still run, and would be robbed of its folder.
    """
    if History(path).since_submission()[-1].event in ("stopped", "failed"):
        return
    why = silence or f"it was started on {submitted.host}; only that machine can tell"
    raise UserError(
        f"'{path}' has job {submitted.job}, and it is not known whether that still runs: {why}"
    )


def _submitted(history: History) -> Event | None:
    events = [event for event in history.read() if event.event == "submitted"]
    return events[-1] if events else None


def _job_to_wait_for(run: Path) -> str | None:
    """Returns the job that trains a run, None when the run is complete.

    Raises:
        UserError: there is no such job.
    """
    if RunFolder(run).is_complete:
        return None
    last = _submitted(History(run))
    number = last.job if last and last.launcher == "slurm" else None
    slurm = Slurm()
    job = slurm.look([number]).get(number) if number else None
    if number and slurm.is_silent:
        raise UserError(f"cannot wait for job {number} of '{run}': {slurm.problems['squeue']}")
    if job is None or not job.is_active:
        raise UserError(
            f"'{run}' is neither complete nor in the queue, so nothing can come after it; "
            "submit it first"
        )
    return number


def _fill(plan: Plan) -> None:
    """Writes settings and code into the folders."""
    first: Path | None = None
    for target in plan.targets:
        target.write()
        code = target.path / CODE
        kept = snapshot.read_snapshot(code)
        if kept is None:
            if (target.path / "checkpoints").is_dir():
                logger.info("'%s' has no copy of its code; it goes on with today's", target.path)
            snapshot.take_snapshot(code, like=first)
        else:
            logger.info("'%s' goes on with the code of %s", target.path, kept["commit"])
        first = first or code
    if len(plan.targets) > 1:
        plan.folder.mkdir(parents=True, exist_ok=True)
        plan.points_file.write_text(plan.points, encoding="utf-8")


def _hand_over(plan: Plan, launcher: Launcher) -> Sequence[str | None]:
    if launcher == "debug":
        return [None] * len(plan.targets)
    if launcher == "local":
        job = plan.targets[0].job
        return [
            sbatch.submit_local(plan.slurm, plan.folder, job, name=plan.name, setup=plan.setup)
        ]
    jobs = [target.job for target in plan.targets]
    return sbatch.submit_slurm(plan.slurm, plan.folder, jobs, name=plan.name, setup=plan.setup)


def _note(target: Target, number: str | None, launcher: Launcher, plan: Plan) -> None:
    """Writes the job into the history."""
    code = snapshot.read_snapshot(target.path / CODE) or {}
    target.history.add(
        Event(
            "submitted",
            job=number,
            launcher=launcher,
            tasks=plan.slurm.processes,
            host=host(),
            commit=code.get("commit"),
            directory=str(plan.directory),
        )
    )


def _link_logs(target: Target, number: str | None, plan: Plan) -> None:
    """Makes the logs of an array's point found in its folder."""
    own = target.path / SUBMIT
    if own == plan.folder or number is None:
        return
    own.mkdir(exist_ok=True)
    for rank in range(plan.slurm.processes):
        name = f"{number}_{rank}_log.out"
        (own / name).unlink(missing_ok=True)
        (own / name).symlink_to(os.path.relpath(plan.folder / name, own))
