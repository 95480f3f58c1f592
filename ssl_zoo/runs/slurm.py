"""`SlurmConfig`: settings of SLURM jobs, and profiles with the settings of a site."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_config_path
from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from ssl_zoo.config import Config, closest, read_yaml, validate
from ssl_zoo.errors import UserError

EARLY_S = 30
"""Seconds that a signal may come early: the interval at which SLURM checks time limits."""

_FIELD_OF = {
    "account": "account",
    "array": "array_parallelism",
    "comment": "comment",
    "constraint": "constraint",
    "cpus-per-task": "cpus_per_task",
    "dependency": "dependency",
    "exclude": "exclude",
    "gpus": "gpus_per_node",
    "gpus-per-node": "gpus_per_node",
    "mem": "mem_gb",
    "nodelist": "nodelist",
    "nodes": "nodes",
    "ntasks": "nodes and tasks_per_node",
    "ntasks-per-node": "tasks_per_node",
    "tasks-per-node": "tasks_per_node",
    "partition": "partition",
    "qos": "qos",
    "signal": "signal_delay_s",
    "time": "timeout_min",
    "wckey": "wckey",
}
"""Options of sbatch that have a field here."""

_FIXED = {
    "error": "logs are kept in the run folder",
    "job-name": "a job is named after its run folder",
    "no-requeue": "a job must be requeued after preemption",
    "open-mode": "a requeued job appends to its logs",
    "output": "logs are kept in the run folder",
    "parsable": "the job ID is read from the output of sbatch",
    "quiet": "the job ID is read from the output of sbatch",
    "requeue": "every job sets it",
    "test-only": "it would not submit a job; use --dry-run",
    "wait": "submitting does not wait for the job",
    "wrap": "the batch script is generated",
}
"""Options of sbatch that users cannot set, with the reason."""


def _word(text: str) -> str:
    if not text or re.search(r"\s", text):
        raise ValueError(f"{text!r} must be one word without spaces")
    return text


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} must be one line of printable text")
    return text


Word = Annotated[str, AfterValidator(_word)]
Line = Annotated[str, AfterValidator(_line)]


class SlurmConfig(Config):
    """Settings of SLURM jobs; fields that are None or unset are left to the site.

    A dump contains only the fields that were set, so that settings can be merged.
    """

    partition: Word | None = None
    """Partition, or several separated by commas."""
    account: Word | None = None
    """Account to charge."""
    qos: Word | None = None
    """Quality of service."""
    nodes: int = Field(default=1, ge=1, le=10_000)
    """Number of nodes."""
    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs per node."""
    tasks_per_node: int | None = Field(default=None, ge=1, le=1024)
    """Processes per node; by default one per GPU, or one without GPUs."""
    cpus_per_task: int | None = Field(default=None, ge=1, le=1024)
    """CPU cores per process, shared with its loader processes."""
    mem_gb: float | None = Field(default=None, ge=0.01, le=100_000)
    """Memory per node, in GB."""
    timeout_min: int = Field(default=1440, ge=1, le=527_040)
    """Time limit of each start of the job, in minutes; a run that takes longer is requeued."""
    constraint: Line | None = None
    """Features that nodes must have, such as `a100|h100`."""
    exclude: Word | None = None
    """Nodes to exclude, such as `node[3-5],node9`."""
    nodelist: Word | None = None
    """Nodes that must be part of the job."""
    comment: Line | None = None
    """Comment that SLURM stores with the job."""
    signal_delay_s: int = Field(default=120, ge=1, le=65_535)
    """Seconds before the time limit at which the job is told to save; several times the saving time."""
    array_parallelism: int = Field(default=256, ge=1, le=1_000_000)
    """Maximum number of sweep points that run at the same time."""
    dependency: Word | None = None
    """Condition for starting, such as `afterok:1234`."""
    setup: list[str] = Field(default=[])
    """Shell commands to run before the job, such as `module load cuda`."""
    python: Line | None = None
    """Shell command that starts Python, such as `apptainer exec --nv image.sif python`."""
    srun_args: list[Line] = Field(default=[])
    """Additional options of srun."""
    additional_parameters: dict[str, bool | int | float | str] = Field(default={})
    """Additional options of sbatch, such as `{reservation: week, exclusive: true}`."""
    max_requeues: int = Field(default=100, ge=0, le=1_000_000)
    """Number of restarts, by the job or by SLURM, after which the job no longer requeues itself."""
    wckey: Word | None = None
    """Workload characterization key, if the site uses them."""

    @field_validator("additional_parameters", mode="before")
    @classmethod
    def _check_options(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {_option(str(name)): _option_value(name, v) for name, v in value.items()}

    @model_validator(mode="after")
    def _check(self) -> "SlurmConfig":
        if self.signal_delay_s + EARLY_S >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_delay_s of {self.signal_delay_s} s does not fit in timeout_min="
                f"{self.timeout_min} (the signal may come {EARLY_S} s early); set "
                f"timeout_min={(self.signal_delay_s + EARLY_S) // 60 + 1} or more, or a shorter delay"
            )
        if self.gpus_per_node and self.tasks_per_node not in (None, self.gpus_per_node):
            raise ValueError(
                f"tasks_per_node of {self.tasks_per_node} does not fit gpus_per_node="
                f"{self.gpus_per_node}: there is one process per GPU; leave out tasks_per_node"
            )
        both = _node_names(self.nodelist) & _node_names(self.exclude)
        if both:
            raise ValueError(f"nodelist and exclude both name {', '.join(sorted(both)[:5])}")
        memory = [key for key in ("mem-per-cpu", "mem-per-gpu") if key in self.options]
        if memory and self.mem_gb is not None:
            raise ValueError(f"mem_gb and {memory[0]} both set the memory; use one of them")
        return self

    @model_serializer(mode="wrap")
    def _dump_what_was_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}

    @property
    def options(self) -> dict[str, bool | int | float | str]:
        """The additional options of sbatch, without those disabled by a higher layer."""
        return {key: v for key, v in self.additional_parameters.items() if v is not False}

    @property
    def processes_per_node(self) -> int:
        """Processes per node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def processes(self) -> int:
        """Total number of processes of the job."""
        return self.nodes * self.processes_per_node

    def check_batch(self, global_batch_size: int, accumulate: int = 1) -> None:
        """Checks before submission that a batch can be split over the job's processes.

        Raises:
            UserError: the batch cannot be split.
        """
        parts = self.processes * accumulate
        if global_batch_size % parts:
            over = f"{self.nodes} nodes x {self.processes_per_node} processes"
            over += f" x accumulate={accumulate}" if accumulate > 1 else ""
            near = max(1, round(global_batch_size / parts)) * parts
            raise UserError(
                f"global_batch_size of {global_batch_size} cannot be split over {over}; "
                f"use a multiple of {parts}, such as {near}"
            )

    def check_cores(self, num_workers: int) -> None:
        """Checks before submission that a process has cores for its loaders, for itself and for copies.

        Raises:
            UserError: there are too few.
        """
        needed = num_workers + 2
        if num_workers and self.cpus_per_task is not None and self.cpus_per_task < needed:
            fits = max(0, self.cpus_per_task - 2)
            raise UserError(
                f"slurm.cpus_per_task of {self.cpus_per_task} is too few for num_workers={num_workers} and "
                f"two more threads; set slurm.cpus_per_task={needed}, or num_workers={fits}"
            )


def resolve(run: SlurmConfig, site: str | None = None) -> tuple[SlurmConfig, list[str]]:
    """Merges the settings of a run over those of a site.

    Args:
        run: fields set here take precedence; `additional_parameters` are merged by key.
        site: name of a profile, or path of a YAML file; by default the profile `default` if there
            is one.

    Returns:
        The settings, and the source of each layer, lowest first.

    Raises:
        UserError: the profile does not exist, or the settings are inconsistent.
    """
    layers = ["the run's settings"] if run.model_fields_set else []
    file = _profile(site)
    if file is None:
        return run, layers
    below = validate(SlurmConfig, read_yaml(file), source=str(file)).model_dump()
    above = run.model_dump()
    key = "additional_parameters"
    merged = {**below, **above}
    if key in below and key in above:
        merged[key] = {**below[key], **above[key]}
    config = validate(SlurmConfig, merged, source=f"slurm settings with '{file}'")
    return config, [str(file), *layers]


def profile_folder() -> Path:
    """Returns the folder of the profiles, `~/.config/ssl-zoo/slurm` by default."""
    return user_config_path("ssl-zoo") / "slurm"


def _profile(site: str | None) -> Path | None:
    """Returns the file of a profile; None if the default profile does not exist."""
    if site and ("/" in site or site.endswith((".yaml", ".yml"))):
        return Path(site).expanduser()
    folder = profile_folder()
    file = folder / f"{site or 'default'}.yaml"
    if file.is_file():
        return file
    if site is None:
        return None
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    raise UserError(
        f"unknown SLURM profile '{site}'.{closest(site, known)} "
        f"Known in {folder}: {', '.join(known) or 'none'}"
    )


def _option(name: str) -> str:
    """Returns an option in sbatch's spelling, if users can set it."""
    option = name.removeprefix("--").replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z0-9-]+", option):
        raise ValueError(f"{name!r} is not a long option of sbatch; write it like 'mail-user'")
    if option in _FIELD_OF:
        raise ValueError(f"'{name}' has a field of its own; set {_FIELD_OF[option]} instead")
    if option in _FIXED:
        raise ValueError(f"'{name}' cannot be set: {_FIXED[option]}")
    return option


def _option_value(name: Any, value: Any) -> bool | int | float | str:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _line(value)
    raise ValueError(
        f"'{name}' holds {value!r}; an option is text in quotes, a number, true or false"
    )


def _node_names(text: str | None) -> set[str]:
    """Returns the names in a node list such as `node[1-2],gpu7`; empty for the path of a file."""
    if not text or "/" in text:
        return set()
    parts = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)
    return {name for part in parts for name in _expand(part)}


def _expand(part: str) -> Iterator[str]:
    """Yields the names in `node[1-3,7]`."""
    head, bracket, rest = part.partition("[")
    if not bracket:
        yield part
        return
    inside, _, tail = rest.partition("]")
    for item in inside.split(","):
        first, dash, last = item.partition("-")
        middles = [item]
        if dash and first.isdigit() and last.isdigit():
            numbers = range(int(first), int(last) + 1)[:100_000]
            middles = [f"{number:0{len(first)}}" for number in numbers]
        yield from (head + middle + end for middle in middles for end in _expand(tail))
