"""The commands `jobs`, `logs`, `cancel`, `requeue` and `release`, and the table of jobs."""

import dataclasses
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from rich.console import Console

from ssl_zoo.cli import jobs as commands
from ssl_zoo.errors import UserError
from ssl_zoo.jobs.status import Phase, RunStatus
from ssl_zoo.report.job_table import duration, jobs_table
from tests.jobs.fake_slurm import DISABLED, FakeSlurm, make_run, started, write_log

RUN = RunStatus(
    folder=Path("runs/swav-digits_affine-0123456789ab"),
    name="runs/swav-digits_affine-0123456789ab",
    job="55407749_0",
    launcher="slurm",
    phase=Phase.TRAINING,
    state="RUNNING",
    reason="on node1",
    requeues=1,
    step=1200,
    total_steps=4400,
    checkpoint_step=1150,
    checkpoint_age_s=12.0,
    images_per_second=812.3,
    eta_s=200.0,
)
FAILED = dataclasses.replace(
    RUN,
    name="runs/b",
    job="7",
    phase=Phase.ENDED,
    state="OUT_OF_MEMORY",
    reason="out of memory (slurm.mem_gb): StepId=55407747.0 exceeded memory limit (569106432 > "
    "106954752), being killed",
    requeues=0,
    images_per_second=None,
    eta_s=None,
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "WATCH_S", 0.05)
    return FakeSlurm(tmp_path, monkeypatch)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str
    error: str


def call(command: click.Command, *arguments: str) -> Result:
    """Runs a command in this process."""
    out, err, status, error = io.StringIO(), io.StringIO(), 0, ""
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command.main([*arguments], standalone_mode=False)
        except SystemExit as end:
            status = int(end.code or 0)
        except UserError as mistake:
            error = str(mistake)
    return Result(status, out.getvalue(), err.getvalue(), error)


def jobs(*arguments: str) -> Result:
    return call(commands.jobs_command, *arguments)


def states(result: Result) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(result.stdout)}


def lines(*found: RunStatus, width: int) -> list[str]:
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(jobs_table(found, width=width))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_table_of_jobs_has_a_line_and_a_reason_for_each() -> None:
    assert lines(RUN, FAILED, width=130) == [
        "run                                   job         state          requeues       step"
        "      checkpoint  images/s    ETA",
        "runs/swav-digits_affine-0123456789ab  55407749_0  RUNNING               1  1200/4400"
        "  1150, 12 s ago       812  3 min",
        "    on node1",
        "runs/b                                7           OUT_OF_MEMORY            1200/4400"
        "  1150, 12 s ago",
        "    out of memory (slurm.mem_gb): StepId=55407747.0 exceeded memory limit (569106432 > "
        "106954752), being killed",
    ]


@pytest.mark.parametrize("width", [90, 100, 120, 200])
def test_a_table_of_jobs_fits_and_cuts_nothing_off(width: int) -> None:
    shown = lines(RUN, FAILED, width=width)
    assert max(map(len, shown)) <= width
    text = " ".join(" ".join(shown).split())
    for needed in (RUN.name, "RUNNING", "1200/4400", "3 min", FAILED.state, FAILED.reason):
        assert needed in text
    assert "…" not in text


def test_columns_with_nothing_to_say_are_left_out() -> None:
    bare = dataclasses.replace(
        FAILED, job=None, step=None, checkpoint_step=None, state="NOT STARTED", reason=""
    )
    assert lines(bare, width=100) == ["run     state", "runs/b  NOT STARTED"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5999, "100 min"),
        (6001, "1.7 h"),
        (36_000, "10 h"),
        (172_799, "48 h"),
        (172_800, "2 d"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_jobs_shows_all_runs_by_default(slurm: FakeSlurm) -> None:
    make_run(Path("runs/one"), job="727")
    make_run(Path("runs/sweep/p-1"), job="729_3")
    result = jobs()
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines()[1::2]] == [
        ["runs/one", "727", "RUNNING"],
        ["runs/sweep/p-1", "729_3", "PENDING"],
    ]


def test_jobs_takes_runs_by_path_by_name_and_by_folder(slurm: FakeSlurm) -> None:
    for name in ("runs/one", "runs/two", "runs/sweep/p-1", "runs/sweep/p-2"):
        make_run(Path(name), job="727")
    found = states(jobs("--json", "runs/one", "sweep", "one"))
    assert list(found) == ["runs/one", "runs/sweep/p-1", "runs/sweep/p-2"]


def test_jobs_names_what_is_no_run(slurm: FakeSlurm) -> None:
    make_run(Path("runs/one"), job="727")
    result = jobs("runs/onw")
    assert result.error.startswith("there is no run 'runs/onw'. Did you mean 'runs/one'?")


def test_no_runs_are_no_failure(slurm: FakeSlurm, tmp_path: Path) -> None:
    result = jobs()
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"ssl-zoo: there are no runs in '{tmp_path}/runs'\n"


def test_jobs_prints_every_field_as_json(slurm: FakeSlurm) -> None:
    make_run(Path("runs/one"), job="730")
    (row,) = json.loads(jobs("--json").stdout)
    names = {field.name for field in dataclasses.fields(RunStatus)}
    assert set(row) == {*names, "is_over", "has_failed"}
    assert (row["folder"], row["reason"], row["has_failed"]) == (
        str(Path("runs/one").absolute()),
        "exit status 3",
        True,
    )


@pytest.mark.parametrize(
    ("job", "status"),
    [("727", 0), ("728", 0), ("744", 0), ("730", 1), ("736", 1), ("738", 1), ("999", 1)],
)
def test_the_exit_status_says_whether_a_run_ended_badly(
    job: str, status: int, slurm: FakeSlurm
) -> None:
    make_run(Path("runs/fine"), job="727")
    make_run(Path("runs/one"), job=job)
    assert jobs().exit_code == status


def test_complete_runs_and_those_that_never_started_are_no_failure(slurm: FakeSlurm) -> None:
    (make_run(Path("runs/one"), job="730") / "complete.json").touch()
    make_run(Path("runs/two"))
    result = jobs("--json")
    assert result.exit_code == 0
    assert list(states(result).values()) == ["COMPLETE", "NOT STARTED"]


def test_what_does_not_work_is_said_in_one_line(slurm: FakeSlurm) -> None:
    make_run(Path("runs/one"), job="730")
    make_run(Path("runs/two"), job="738")
    slurm.says("sacct", err=DISABLED, status=1)
    result = jobs()
    assert result.stderr.startswith(f"ssl-zoo: sacct: {DISABLED}; ")
    assert result.stderr.count("\n") == 1


def test_jobs_waits_until_all_are_over(slurm: FakeSlurm) -> None:
    run = make_run(Path("runs/one"), started("727"), job="727")
    folder, done = slurm.folder, run.absolute() / "complete.json"
    count = f'while IFS= read -r line; do n="$n."; done < "{folder}/calls"'
    ends = f'[ "$n" != ... ] || {{ : > "{done}"; : > "{folder}/squeue.out"; }}'
    slurm.says("squeue", (folder / "squeue.out").read_text(), then=f"{count}; {ends}")
    slurm.says("sacct")
    result = jobs("--wait", "--json")
    assert states(result) == {"runs/one": "COMPLETE"}
    assert len(slurm.calls("squeue")) >= 3


def test_watching_needs_a_terminal(slurm: FakeSlurm) -> None:
    result = jobs("--watch")
    assert "--watch needs a terminal" in result.error


def test_logs_are_shown_with_options(slurm: FakeSlurm) -> None:
    run = make_run(Path("runs/one"), started("727"), job="727")
    write_log(run, "727", "a", "b", "c")
    write_log(run, "727", "of 1", rank=1)
    assert call(commands.logs_command, "runs/one", "-n", "2").stdout == "b\nc\n"
    assert call(commands.logs_command, "one", "--rank", "1").stdout == "of 1\n"
    both = call(commands.logs_command, "one", "--rank", "all", "-n", "1").stdout
    assert both == "[0] c\n[1] of 1\n"
    wrong = call(commands.logs_command, "one", "--rank", "first").error
    assert "--rank of 'first'" in wrong


def test_a_log_cannot_control_the_terminal(slurm: FakeSlurm) -> None:
    run = make_run(Path("runs/one"), started("727"), job="727")
    write_log(run, "727", "\x1b]0;title\x07 done")
    assert call(commands.logs_command, "runs/one").stdout == "\\x1b]0;title\\x07 done\n"


def test_what_is_said_of_the_job_goes_to_standard_error(slurm: FakeSlurm) -> None:
    make_run(Path("runs/one"), job="742")
    result = call(commands.logs_command, "runs/one")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("ssl-zoo: runs/one, job 742: PENDING: Resources: waits for")


def test_following_ends_with_the_run(slurm: FakeSlurm) -> None:
    write_log(make_run(Path("runs/one"), job="730"), "730", "ssl-zoo: why")
    result = call(commands.logs_command, "runs/one", "-f")
    assert (result.exit_code, result.stdout) == (0, "ssl-zoo: why\n")
    assert result.stderr == "ssl-zoo: runs/one, job 730: FAILED: why\n"


@pytest.mark.parametrize(
    ("command", "arguments", "job", "order"),
    [
        (commands.cancel_command, [], "727", "scancel 727"),
        (commands.requeue_command, [], "727", "scancel --signal=USR2 727"),
        (commands.requeue_command, ["--now"], "727", "scontrol requeue 727"),
        (commands.release_command, [], "728", "scontrol release 728"),
    ],
)
def test_orders_reach_slurm(
    command: click.Command,
    arguments: list[str],
    job: str,
    order: str,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ssl_zoo.launch import control

    monkeypatch.setattr(control, "PATIENCE_S", 0.1)
    make_run(Path("runs/one"), started(job), job=job)
    result = call(command, "runs/one", *arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"job {job} of 'runs/one' ")
    assert order in slurm.calls()


@pytest.mark.parametrize("module", ["cli.jobs", "jobs.status", "jobs.logs", "launch.control"])
def test_the_commands_start_quickly(module: str) -> None:
    heavy = "('torch', 'pydantic', 'rich', 'submitit')"
    line = f"import sys, ssl_zoo.{module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
