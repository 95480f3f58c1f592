"""`submit`: writes runs and scoring jobs to folders and passes them to a launcher."""

import logging
import os
import shlex
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
from ssl_zoo.launch.entry import CompareJob, EvaluateJob, TrainJob
from ssl_zoo.launch.reserved import reserved
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History, host
from ssl_zoo.runs.places import default_folder
from ssl_zoo.runs.slurm import SlurmConfig, resolve

logger = logging.getLogger(__name__)

Launcher = Literal["slurm", "local", "debug"]
CODE = "code"
SUBMIT = "submit"


@dataclass(frozen=True)
class Target:
    """One job: its folder, its task, and how to create the folder."""

    path: Path
    job: TrainJob | EvaluateJob | CompareJob
    settings: str
    write: Callable[[], None]
    is_complete: bool

    @property
    def history(self) -> History:
        """History of the folder."""
        return History(self.path)


@dataclass(frozen=True)
class Plan:
    """A planned submission: nothing has been written or submitted yet.

    Attributes:
        targets: jobs to submit, without `skipped`.
        skipped: folder and reason of each target that does not need a job.
        slurm: settings of the jobs.
        sources: where these settings come from.
        name: name of the job in the queue.
        folder: submitit's folder.
    """

    targets: list[Target]
    skipped: list[tuple[Path, str]]
    slurm: SlurmConfig
    sources: list[str]
    name: str
    folder: Path

    @property
    def script(self) -> str:
        """The batch script, byte for byte as passed to `sbatch`."""
        return sbatch.script(
            self.slurm,
            self.folder,
            name=self.name,
            setup=self.setup,
            n_points=len(self.targets),
        )

    @property
    def setup(self) -> list[str]:
        """Shell lines that set a job's working directory and make it use the code in its folder."""
        if len(self.targets) == 1:
            code = snapshot.setup_lines(self.targets[0].path / CODE)
        else:
            code = snapshot.array_setup_lines(self.points_file)
        return [f"cd {shlex.quote(str(self.directory))}", *code]

    @property
    def directory(self) -> Path:
        """Base of relative paths in settings: the directory of the first submission."""
        for target in self.targets:
            for event in target.history.read():
                if event.event == "submitted" and event.directory:
                    return Path(event.directory)
        return Path.cwd()

    @property
    def points(self) -> str:
        """The code folders of an array's points, one per line."""
        return "".join(f"{target.path / CODE}\n" for target in self.targets)

    @property
    def points_file(self) -> Path:
        """File that lists the points of an array; named after them."""
        return self.folder / f"points-{digest(self.points)}.txt"


def submit(
    config: RunConfig,
    slurm: SlurmConfig | None = None,
    *,
    output: str | Path | None = None,
    launcher: Launcher = "slurm",
) -> Path:
    """Submits a training run, or resubmits one that has stopped; returns its folder.

    Args:
        config: settings of the run.
        slurm: settings of the job; by default those in the config, on top of the site's default profile.
        output: run folder; by default `runs/METHOD-DATA-DIGEST`.
        launcher: `slurm`, `local` (this machine, in the background) or `debug` (this process).

    Raises:
        UserError: the settings are inconsistent, the folder is in use or belongs to another
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
        folders: one run folder per config.
        site: profile or file with SLURM settings that those of the configs override; None uses the
            site's default profile, an empty string no profile.

    Raises:
        UserError: a batch cannot be split over the processes, or a folder belongs to another run.
    """
    slurm, sources = (configs[0].slurm, []) if site == "" else resolve(configs[0].slurm, site)
    targets = []
    for config, folder in zip(configs, folders, strict=True):
        if config.slurm != configs[0].slurm:
            raise UserError(
                "the points of a sweep form one array and must share the settings under 'slurm'"
            )
        slurm.check_batch(config.global_batch_size, config.accumulate)
        slurm.check_cores(config.num_workers)
        targets.append(_training(config.model_copy(update={"slurm": slurm}), folder))
    return plan_targets(targets, slurm, sources)


def plan_scoring(
    config: ScoringConfig, folder: Path, *, after: Iterable[Path] = (), site: str | None = None
) -> Plan:
    """Plans a scoring job.

    Args:
        after: run folders whose jobs must succeed first.
        site: as for `plan_runs`.

    Raises:
        UserError: one of the runs is neither complete nor submitted.
    """
    slurm, sources = resolve(config.slurm, site)
    scoring = ScoringFolder(folder.absolute())
    scoring.check()
    config = config.model_copy(update={"slurm": waiting_for(slurm, after)})
    target = Target(
        path=scoring.path,
        job=EvaluateJob(str(scoring.path)),
        settings=dump_yaml(config),
        write=lambda: scoring.create(config),
        is_complete=scoring.is_complete,
    )
    return plan_targets([target], config.slurm, sources)


def waiting_for(slurm: SlurmConfig, runs: Iterable[Path]) -> SlurmConfig:
    """Returns the settings of a job that starts when those that train the runs have succeeded.

    Raises:
        UserError: one of the runs is neither complete nor submitted.
    """
    jobs = [job for run in runs if (job := _job_to_wait_for(run)) is not None]
    if not jobs:
        return slurm
    given = [slurm.dependency] if slurm.dependency else []
    together = ",".join([*given, "afterok:" + ":".join(jobs)])
    # Otherwise the job would wait forever for one that has failed.
    options = {"kill-on-invalid-dep": "yes", **slurm.additional_parameters}
    update = {"dependency": together, "additional_parameters": options}
    return SlurmConfig.model_validate({**slurm.model_dump(), **update})


def execute(plan: Plan, launcher: Launcher) -> list[str]:
    """Creates the folders and submits the jobs; returns their ids.

    Raises:
        UserError: the launcher refuses; newly created folders are removed.
    """
    for path, reason in plan.skipped:
        logger.info("'%s' is %s; not submitted", path, reason)
    if not plan.targets:
        return []
    if launcher == "local" and len(plan.targets) > 1:
        raise UserError(
            f"--launcher local starts one job, but there are {len(plan.targets)}; use --launcher debug "
            "to run them one after the other, or --launcher slurm"
        )
    with reserved([target.path for target in plan.targets]) as made:
        for path, state in _states(plan.targets).items():  # submitted since the plan was made
            raise _taken(path, state)
        _fill(plan)
        numbers = _hand_over(plan, launcher)
        made.clear()  # they belong to the jobs
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
    """Writes the settings, unless another process is training or has trained another run here."""
    with run.lock():
        run.check(config)
        run.create(config)


def plan_targets(targets: list[Target], slurm: SlurmConfig, sources: list[str]) -> Plan:
    """Plans the jobs that are not complete and not in the queue.

    Raises:
        UserError: the only one is in the queue.
    """
    states = _states(targets)
    pending = [target for target in targets if target.path not in states]
    if len(targets) == 1:
        path = targets[0].path
        if path in states and not targets[0].is_complete:
            raise _taken(path, states[path])
    place = pending[0].path if len(pending) == 1 else targets[0].path.parent
    return Plan(
        targets=pending,
        skipped=list(states.items()),
        slurm=slurm,
        sources=sources,
        name=place.name,
        folder=place / SUBMIT,
    )


def _taken(path: Path, state: str) -> UserError:
    return UserError(
        f"'{path}' is {state}; see ssl-zoo jobs {path}, or end it with ssl-zoo cancel"
    )


def _states(targets: list[Target]) -> dict[Path, str]:
    """Returns why a target does not need a job: it is complete, or it has one."""
    found = {target.path: "complete" for target in targets if target.is_complete}
    jobs = {}
    for target in targets:
        last = target.history.submission()
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
    """Checks in its history that a job whose state is unavailable has ended.

    Raises:
        UserError: it may still be running in the folder.
    """
    if History(path).since_submission()[-1].event in ("stopped", "failed"):
        return
    why = silence or f"it was started on {submitted.host}; ask there"
    raise UserError(
        f"'{path}' has job {submitted.job}, and it is not known whether that still runs: {why}"
    )


def _job_to_wait_for(run: Path) -> str | None:
    """Returns the job that trains a run, None if the run is complete.

    Raises:
        UserError: there is no such job.
    """
    if RunFolder(run).is_complete:
        return None
    last = History(run).submission()
    number = last.job if last and last.launcher == "slurm" else None
    slurm = Slurm()
    job = slurm.look([number]).get(number) if number else None
    if number and slurm.is_silent:
        raise UserError(f"cannot wait for job {number} of '{run}': {slurm.problems['squeue']}")
    if job is None or not job.is_active:
        raise UserError(
            f"'{run}' is neither complete nor in the queue, so --after cannot wait for it; "
            "submit it first"
        )
    return number


def _fill(plan: Plan) -> None:
    """Writes settings and code to the folders."""
    first: Path | None = None
    for target in plan.targets:
        target.write()
        code = target.path / CODE
        kept = snapshot.read_snapshot(code)
        if kept is None:
            if (target.path / "checkpoints").is_dir():
                logger.info("'%s' has no copy of its code; it uses the current code", target.path)
            snapshot.take_snapshot(code, like=first)
        else:
            logger.info("'%s' keeps using its code of commit %s", target.path, kept["commit"])
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
    """Records the job in the history."""
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
    """Links the logs of an array's point into its folder."""
    own = target.path / SUBMIT
    if own == plan.folder or number is None:
        return
    own.mkdir(exist_ok=True)
    for name in (f"{number}_{rank}_log.out" for rank in range(plan.slurm.processes)):
        (own / name).unlink(missing_ok=True)
        (own / name).symlink_to(os.path.relpath(plan.folder / name, own))
