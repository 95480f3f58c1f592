"""The batch script, what is submitted, and what is refused.

They pin what is used of submitit's inside: its batch script and files.
"""

import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import sbatch
from ssl_zoo.runs.slurm import SlurmConfig
from tests.launch.test_executors import shell

FAKE_SBATCH = """#!/bin/sh
env > "$RECORD"
echo "$@" >> "$RECORD.arguments"
echo "Submitted batch job 7"
"""


REFUSING_SBATCH = """#!/bin/sh
echo "sbatch: error: invalid partition specified: foo" >&2
echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
exit 1
"""


def options(script: str) -> dict[str, str]:
    """Returns the options that a batch script gives to sbatch, as sbatch reads them."""
    found = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH --"):
            (word,) = shlex.split(line.removeprefix("#SBATCH --"))
            name, _, value = word.partition("=")
            found[name] = value
    return found


def command(script: str) -> list[str]:
    """Returns the words of the command that starts the tasks."""
    (line,) = (line for line in script.splitlines() if line.startswith("srun "))
    return shlex.split(line)


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is searched for programs; RECORD is the file that they write to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("sh", "env"):
        (folder / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    return folder


def write_program(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


def test_a_script_needs_no_slurm_and_writes_nothing(tmp_path: Path, only_path: Path) -> None:
    folder = tmp_path / "run" / "submit"
    assert sbatch.script(SlurmConfig(), folder, name="run").startswith("#!/bin/bash\n")
    assert not folder.parent.exists()


def test_what_is_not_set_is_left_to_the_site(tmp_path: Path) -> None:
    assert options(sbatch.script(SlurmConfig(), tmp_path, name="swav 1/é")) == {
        "job-name": "swav_1",
        "nodes": "1",
        "ntasks-per-node": "1",
        "open-mode": "append",
        "output": f"{tmp_path}/%j_0_log.out",
        "requeue": "",
        "signal": "USR2@120",
        "time": "1440",
    }


def test_every_setting_arrives_in_the_script(tmp_path: Path) -> None:
    config = SlurmConfig(
        partition="gpu,low",
        account="lab",
        qos="fast",
        nodes=2,
        gpus_per_node=4,
        cpus_per_task=8,
        mem_gb=1.5,
        timeout_min=30,
        constraint="a100|h100",
        exclude="node[1-3]",
        nodelist="node7",
        comment="it's # mine",
        signal_delay_s=60,
        array_parallelism=2,
        dependency="afterok:5",
        additional_parameters={
            "mail_user": "me",
            "exclusive": True,
            "nice": 3,
            "contiguous": False,
        },
        wckey="key",
    )
    script = sbatch.script(config, tmp_path, name="run", n_points=3)
    assert options(script) == {
        "account": "lab",
        "array": "0-2%2",
        "comment": "it's # mine",
        "constraint": "a100|h100",
        "cpus-per-task": "8",
        "dependency": "afterok:5",
        "exclude": "node[1-3]",
        "exclusive": "",
        "gpus-per-node": "4",
        "job-name": "run",
        "mail-user": "me",
        "mem": "1536MB",
        "nice": "3",
        "nodelist": "node7",
        "nodes": "2",
        "ntasks-per-node": "4",
        "open-mode": "append",
        "output": f"{tmp_path}/%A_%a_0_log.out",
        "partition": "gpu,low",
        "qos": "fast",
        "requeue": "",
        "signal": "USR2@60",
        "time": "30",
        "wckey": "key",
    }


def test_one_failed_task_ends_all_and_users_options_come_last(tmp_path: Path) -> None:
    config = SlurmConfig(cpus_per_task=3, srun_args=["--label", "--kill-on-bad-exit=0"])
    words = command(sbatch.script(config, tmp_path, name="run"))
    assert words[: words.index("sh")] == [
        *("srun", "--unbuffered", "--output", f"{tmp_path}/%j_%t_log.out"),
        *("--kill-on-bad-exit=1", "--export=ALL", "--cpus-per-task=3"),
        *("--label", "--kill-on-bad-exit=0"),
    ]


def test_setup_lines_of_the_job_come_after_those_of_the_site(tmp_path: Path) -> None:
    config = SlurmConfig(setup=["module load cuda"])
    lines = sbatch.script(config, tmp_path, name="run", setup=["export A='b c'"]).splitlines()
    assert lines.index("export A='b c'") == lines.index("module load cuda") + 1
    assert lines.index("export A='b c'") < lines.index("export SUBMITIT_EXECUTOR=slurm")


@pytest.mark.parametrize("python", [None, f"env MARK='a  b' {shlex.quote(sys.executable)}"])
def test_the_signal_is_ignored_while_python_starts(tmp_path: Path, python: str | None) -> None:
    """Runs the very command of the script, with Python told to say what it ignores."""
    folder = tmp_path / "it's here"
    words = sbatch.script(SlurmConfig(python=python), folder, name="run").splitlines()[-1]
    task = words[words.index("sh -c") :].replace(
        "-m submitit.core._submit",
        "-c 'import os, signal, sys; print(signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN, "
        'os.environ.get("MARK"), sys.argv[1:])\'',
    )
    done = subprocess.run(["bash", "-c", task], capture_output=True, text=True, check=True)
    mark = "a  b" if python else None
    assert done.stdout == f"True {mark} {[str(folder)]}\n"


@pytest.mark.parametrize("name", ["100%j", "back\\slash", "two\nlines"])
def test_a_path_that_slurm_reads_differently_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be a job folder.*choose another --output"):
        sbatch.script(SlurmConfig(), tmp_path / name, name="run")


@pytest.mark.parametrize("n_points", [1, 3])
def test_what_is_submitted_is_what_script_returns(
    tmp_path: Path, only_path: Path, n_points: int
) -> None:
    write_program(only_path / "sbatch", FAKE_SBATCH)
    folder = tmp_path / "my runs" / "submit"
    config = SlurmConfig(partition="gpu", python="container python", setup=["true"])
    jobs = [shell(f"echo {number}") for number in range(n_points)]
    ids = sbatch.submit_slurm(config, folder, jobs, name="run", setup=["false"])
    assert ids == (["7"] if n_points == 1 else ["7_0", "7_1", "7_2"])
    expected = sbatch.script(config, folder, name="run", setup=["false"], n_points=n_points)
    assert (folder / "7_submission.sh").read_bytes() == expected.encode()
    assert len((tmp_path / "record.arguments").read_text().splitlines()) == 1
    for number, each in enumerate(ids):
        delayed = pickle.loads((folder / f"{each}_submitted.pkl").read_bytes())
        assert delayed.function.args == jobs[number].args  # type: ignore[attr-defined]


def submitted_environment(tmp_path: Path) -> dict[str, str]:
    """Submits, and returns the environment that sbatch was given."""
    config = SlurmConfig(partition="gpu", mem_gb=3)
    before = dict(os.environ)
    sbatch.submit_slurm(config, tmp_path / "submit", [shell("true")], name="run")
    assert dict(os.environ) == before
    lines = (tmp_path / "record").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_variables_do_not_overrule_what_was_set(
    tmp_path: Path, only_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(only_path / "sbatch", FAKE_SBATCH)
    against = ("PARTITION", "TIMELIMIT", "NO_REQUEUE", "MEM_PER_CPU", "SIGNAL", "WAIT")
    for name in against:
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")  # not set, so that this one counts
    found = submitted_environment(tmp_path)
    assert {name for name in found if name.startswith("SBATCH_")} == {"SBATCH_ACCOUNT"}


def test_a_job_that_submits_a_job_hands_down_nothing_of_its_own(
    tmp_path: Path, only_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(only_path / "sbatch", FAKE_SBATCH)
    ours = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME", "SUBMITIT_FOLDER")
    for name in (*ours, "RANK", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "37")
    for name in ("SLURM_CONF", "SLURM_CLUSTERS", "MARK"):
        monkeypatch.setenv(name, "kept")
    found = submitted_environment(tmp_path)
    assert {name for name, value in found.items() if value == "37"} == set()
    assert {name for name, value in found.items() if value == "kept"} == {
        *("SLURM_CONF", "SLURM_CLUSTERS", "MARK")
    }


def test_outside_of_a_job_the_users_own_variables_stay(
    tmp_path: Path, only_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(only_path / "sbatch", FAKE_SBATCH)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setenv("RANK", "3")
    found = submitted_environment(tmp_path)
    assert found["SLURM_TIME_FORMAT"] == "relative"
    assert "RANK" not in found


def test_without_sbatch_the_error_names_alternatives(tmp_path: Path, only_path: Path) -> None:
    with pytest.raises(UserError) as error:
        sbatch.submit_slurm(SlurmConfig(), tmp_path / "submit", [shell("true")], name="run")
    for fact in ("'sbatch' is not on PATH", "--launcher local", "--dry-run"):
        assert fact in str(error.value)
    assert not (tmp_path / "submit").exists()


@pytest.mark.parametrize("n_points", [1, 2])
@pytest.mark.parametrize("existing", [(), ("6_submitted.pkl", "6_submission.sh")])
def test_a_refusal_is_sbatchs_own_words_and_leaves_nothing(
    tmp_path: Path,
    only_path: Path,
    capfd: pytest.CaptureFixture[str],
    n_points: int,
    existing: tuple[str, ...],
) -> None:
    write_program(only_path / "sbatch", REFUSING_SBATCH)
    folder = tmp_path / "submit"
    for name in existing:
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    with pytest.raises(UserError) as error:
        sbatch.submit_slurm(SlurmConfig(), folder, [shell("true")] * n_points, name="run")
    assert str(error.value) == (
        "sbatch refused the job: invalid partition specified: foo; "
        "Batch job submission failed: Invalid partition name specified"
    )
    assert capfd.readouterr() == ("", "")
    assert folder.is_dir() == bool(existing)
    assert {path.name for path in folder.glob("*")} == set(existing)
