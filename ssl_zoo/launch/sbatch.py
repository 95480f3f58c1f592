"""Submits jobs through submitit: the batch script, its submission, and local jobs. submitit's
pickles, scripts and logs are in one folder.

`tests/launch/test_sbatch.py` and `test_executors.py` pin the submitit internals that this module relies on.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ssl_zoo.errors import UserError
from ssl_zoo.runs.job import current_job
from ssl_zoo.runs.slurm import SlurmConfig

Job = Callable[[], object]

OF_LAUNCHERS = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
)
OF_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
OF_THE_SITE = ("SLURM_CONF", "SLURM_CLUSTERS")
SAME_IN_SUBMITIT = (
    *("partition", "account", "qos", "nodes", "cpus_per_task", "mem_gb", "timeout_min"),
    *("constraint", "exclude", "nodelist", "comment", "dependency"),
    *("signal_delay_s", "array_parallelism"),
)
"""Settings with the same name in submitit."""
OTHER_NAMES = {
    "array": ("SBATCH_ARRAY_INX",),
    "mem": ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"),
    "requeue": ("SBATCH_NO_REQUEUE",),
    "time": ("SBATCH_TIMELIMIT",),
}
"""sbatch variables whose name differs from their option."""

CONTROLLER = "ssl_zoo.launch.controller"
"""Module that controls the tasks of a local job."""


def script(
    slurm: SlurmConfig, folder: Path, *, name: str, setup: Sequence[str] = (), n_points: int = 1
) -> str:
    """Returns the batch script that `submit_slurm` submits; does not need SLURM and writes nothing.

    Args:
        folder: submitit's folder, for logs and pickles.
        name: name of the job.
        setup: shell lines to add after those of the settings.
        n_points: number of jobs submitted together; two or more form an array.

    Raises:
        UserError: the folder's path cannot be used in a batch script.
    """
    executor = _slurm_executor(slurm, folder, name, setup, n_points)
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


def submit_slurm(
    slurm: SlurmConfig, folder: Path, jobs: Sequence[Job], *, name: str, setup: Sequence[str] = ()
) -> list[str]:
    """Submits jobs to SLURM, several as one array.

    Returns:
        The job id, `12`, or those of the points of an array, `12_0`, `12_1`.

    Raises:
        UserError: sbatch is missing or refuses the job; the folder is then left empty.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = _slurm_executor(slurm, folder, name, setup, len(jobs))
    if shutil.which("sbatch") is None:
        raise UserError(
            "'sbatch' is not on PATH, so there is no SLURM to submit to; use --launcher local, "
            "or --dry-run to see the batch script"
        )
    text = script(slurm, folder, name=name, setup=setup, n_points=len(jobs))
    silence = contextlib.redirect_stderr(io.StringIO())  # submitit prints sbatch's message as well
    try:
        with _without(_misleading(text)), _all_or_nothing(folder), silence:
            return [job.job_id for job in executor.submit_array(jobs)]
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [re.sub(r"^sbatch: (error: )?", "", line) for line in str(error).splitlines()]
        raise UserError(f"sbatch refused the job: {'; '.join(filter(None, lines))}") from None


def submit_local(
    slurm: SlurmConfig, folder: Path, job: Job, *, name: str, setup: Sequence[str] = ()
) -> str:
    """Starts a job on this machine, in processes that outlive this one and its terminal.

    Uses the settings tasks_per_node, gpus_per_node, timeout_min, signal_delay_s, max_requeues,
    setup and python.

    Returns:
        The id of the controlling process; it forwards SIGTERM and SIGUSR2 to all tasks.

    Raises:
        UserError: the settings request several machines, or more GPUs than are visible.
    """
    if slurm.nodes > 1:
        raise UserError(
            f"this machine is one node, and slurm.nodes is {slurm.nodes}; set slurm.nodes=1"
        )
    with _without(_inherited() - {*OF_DEVICES}), _all_or_nothing(_checked(folder)):
        executor = _local_executor(slurm, folder, name, setup)
        return str(executor.submit(job).job_id)


def safe_name(name: str) -> str:
    """Returns a name that is safe for SLURM and shells."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", name).strip("_")[:128] or "ssl-zoo"


def _slurm_executor(
    slurm: SlurmConfig, folder: Path, name: str, setup: Sequence[str], n_points: int
) -> Any:
    """Returns submitit's executor, configured for these jobs; it works without SLURM."""
    from ssl_zoo.launch.executors import ArrayExecutor

    folder = _checked(folder)
    executor = ArrayExecutor(
        folder,
        command=_task_command(slurm, folder),
        timeout_min=slurm.timeout_min,
        max_num_timeout=slurm.max_requeues,
    )
    executor.update_parameters(**executor._convert_parameters(_parameters(slurm, name, setup)))
    if n_points > 1:
        executor.parameters["map_count"] = n_points
    return executor


def _local_executor(slurm: SlurmConfig, folder: Path, name: str, setup: Sequence[str]) -> Any:
    """Returns submitit's executor for this machine, with our own controller."""
    from ssl_zoo.launch.executors import DetachedExecutor

    folder = _checked(folder)
    return DetachedExecutor(
        folder,
        command=_task_command(slurm, folder),
        script=_local_script(slurm, folder, name, setup),
        environment=_local_environment(slurm),
        tasks=slurm.processes_per_node,
        max_num_timeout=slurm.max_requeues,
    )


def _parameters(slurm: SlurmConfig, name: str, setup: Sequence[str]) -> dict[str, Any]:
    """Returns submitit's parameters for the batch script."""
    srun_args = ["--kill-on-bad-exit=1", "--export=ALL"]  # also after sbatch --export=NONE
    if slurm.cpus_per_task:  # since 22.05 srun does not inherit it from the job
        srun_args.append(f"--cpus-per-task={slurm.cpus_per_task}")
    same = {field: getattr(slurm, field) for field in SAME_IN_SUBMITIT}
    return {
        **{field: value for field, value in same.items() if value is not None},
        "wckey": slurm.wckey,  # also if None: submitit's default is "submitit", which some sites refuse
        "name": safe_name(name),
        "tasks_per_node": slurm.processes_per_node,
        "gpus_per_node": slurm.gpus_per_node or None,
        "stderr_to_stdout": True,
        "setup": [*slurm.setup, *setup],
        "srun_args": [*srun_args, *slurm.srun_args],
        "additional_parameters": {
            **slurm.options,
            "requeue": True,
            "signal": f"USR2@{slurm.signal_delay_s}",  # submitit's own can be overridden by the environment
        },
    }


def _task_command(slurm: SlurmConfig, folder: Path) -> str:
    """Returns the shell command that runs a task of the job with its files in submitit's folder."""
    python = slurm.python or shlex.quote(sys.executable)
    return f"{python} -u -m submitit.core._submit {shlex.quote(str(folder))}"


def _checked(folder: Path) -> Path:
    """Returns the absolute path.

    Raises:
        UserError: SLURM would write to a different path.
    """
    path = folder.absolute()
    if re.search(r"[%\\]", str(path)) or not str(path).isprintable():
        raise UserError(
            f"'{path}' cannot be a job folder: SLURM gives '%' and '\\' in paths a special "
            "meaning; choose another --output"
        )
    return path


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Creates submitit's folder, and removes its new files if the job cannot be submitted."""
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        for file in set(folder.iterdir()) - before:
            if re.fullmatch(r"(\.submission_file_)?[0-9a-f]{32}\.(sh|pkl)", file.name):
                file.unlink()
        if not existed and not any(folder.iterdir()):
            folder.rmdir()
        raise


@contextlib.contextmanager
def _without(names: set[str]) -> Iterator[None]:
    """Hides environment variables from processes started in the meantime."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _inherited() -> set[str]:
    """Returns the variables that would make a new job mistake itself for this process's job."""
    names = {*OF_LAUNCHERS, *(name for name in os.environ if name.startswith("SUBMITIT_"))}
    if current_job():
        ours = ("SLURM_", "SLURMD_", "SRUN_")
        names |= {name for name in os.environ if name.startswith(ours)} | {*OF_DEVICES}
    return names - {*OF_THE_SITE}


def _misleading(text: str) -> set[str]:
    """Returns the variables that would override options of a script in sbatch."""
    options = re.findall(r"^#SBATCH --([a-z0-9-]+)", text, flags=re.MULTILINE)
    names = {f"SBATCH_{option.upper().replace('-', '_')}" for option in options}
    names.update(*(OTHER_NAMES.get(option, ()) for option in options))
    return names | _inherited() | {"SBATCH_WAIT"}


def _local_environment(slurm: SlurmConfig) -> dict[str, str]:
    """Returns the environment variables for submitit's controller and its tasks."""
    variables = {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_NTASKS": str(slurm.processes_per_node),
        "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(slurm.signal_delay_s),
        "SUBMITIT_LOCAL_TIMEOUT_S": str(60 * slurm.timeout_min),
        "SUBMITIT_LOCAL_WITH_SHELL": "",
        "SUBMITIT_STDERR_TO_STDOUT": "1",
    }
    wanted, given = slurm.gpus_per_node, os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted:
        gpus = [*map(str, range(wanted))] if given is None else [*filter(None, given.split(","))]
        if len(gpus) < wanted:
            raise UserError(
                f"slurm.gpus_per_node is {wanted}, but CUDA_VISIBLE_DEVICES='{given}' shows "
                f"{len(gpus)}; request at most that many"
            )
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[:wanted])
    return variables


def _local_script(slurm: SlurmConfig, folder: Path, name: str, setup: Sequence[str]) -> str:
    """Returns the shell lines that start the controller of a local job."""
    starts = slurm.max_requeues + 1
    control = [sys.executable, "-m", CONTROLLER, str(folder), str(starts), safe_name(name)]
    return "\n".join(
        [
            f"exec >>{shlex.quote(str(folder))}/$$_0_log.out 2>&1",  # the shell's process id is the job id
            *slurm.setup,
            *setup,
            f"exec {shlex.join(control)}",
        ]
    )
