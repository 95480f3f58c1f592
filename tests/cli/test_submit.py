"""The command `ssl-zoo submit`, where there is no SLURM."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ssl_zoo.cli.submit import submit_command
from ssl_zoo.config import parse_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig
from tests.small import FAST


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, no clients of SLURM and no profiles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "profiles"))


def submit(*arguments: str) -> Result:
    result = CliRunner().invoke(submit_command, arguments)
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


def test_a_dry_run_prints_the_script_and_the_settings(tmp_path: Path) -> None:
    result = submit("swav", "seed=3", "slurm.partition=gpu", "-o", "run", "--dry-run")
    assert result.exit_code == 0
    script, _, settings = result.stdout.partition("---\n")
    assert script.splitlines()[:2] == ["# settings of the job: the run's settings", "#!/bin/bash"]
    assert "#SBATCH --partition=gpu" in script
    assert f"{tmp_path}/run/submit" in script
    config = RunConfig.model_validate(parse_yaml(settings, source="printed"))
    assert (config.seed, config.slurm.partition) == (3, "gpu")
    assert [*tmp_path.iterdir()] == []


def test_a_dry_run_of_a_sweep_prints_every_point(tmp_path: Path) -> None:
    result = submit(
        "--sweep", "method=swav,simclr", "--sweep", "seed=0..2", "epochs=2", "--dry-run"
    )
    assert "#SBATCH --array=0-5%6" in result.stdout
    documents = [parse_yaml(text, source="printed") for text in result.stdout.split("---\n")[1:]]
    assert [(d["method"]["name"], d["seed"], d["epochs"]) for d in documents] == [
        (method, seed, 2) for method in ("swav", "simclr") for seed in range(3)
    ]


def test_a_dry_run_names_the_profile(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("partition: gpu\n")
    result = submit("swav", "--slurm", "./site.yaml", "--dry-run")
    assert "# settings of the job: site.yaml\n" in result.stdout
    assert "#SBATCH --partition=gpu" in result.stdout


def test_a_dry_run_of_scores(tmp_path: Path) -> None:
    result = submit(
        *(
            "evaluate",
            "untrained:tiny_resnet",
            "--dataset",
            "digits",
            "slurm.mem_gb=4",
            "--dry-run",
        )
    )
    assert "#SBATCH --mem=4GB" in result.stdout
    assert "checkpoint: untrained:tiny_resnet" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["swav"], "'sbatch' is not on PATH"),
        (["swaw"], "unknown method 'swaw'. Did you mean 'swav'?"),
        (
            ["swav", "slurm.partitoin=x"],
            "unknown key 'slurm.partitoin'. Did you mean 'partition'?",
        ),
        (["swav", "--slurm", "lab"], "unknown SLURM profile 'lab'"),
        (["swav", "--sweep", "seed"], "'seed' is not a sweep"),
        (["evaluate", "x", "--evaluators", "knm"], "unknown evaluator 'knm'"),
        (
            ["evaluate", "x", "--after", "runs/none"],
            "'runs/none' is neither complete nor in the queue",
        ),
    ],
)
def test_what_cannot_be_submitted_is_said_and_leaves_nothing(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_zoo.launch.sbatch.shutil.which", lambda name: None)
    with pytest.raises(UserError) as caught:
        submit(*arguments)
    assert complaint in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_help_teaches_with_and_without_a_subcommand() -> None:
    assert "ssl-zoo submit --sweep method=swav,simclr" in submit("--help").stdout
    assert submit().stdout == submit("--help").stdout
    assert "--after RUN" in submit("evaluate", "--help").stdout


def test_a_dry_run_of_a_comparison_prints_the_array_and_names_the_last_job(tmp_path: Path) -> None:
    options = ("--seeds", "2", "-o", "out", "--dry-run")
    result = submit("compare", "simclr", *FAST, "epochs=1", "slurm.partition=gpu", *options)
    assert result.exit_code == 0
    assert "#SBATCH --array=0-1%2" in result.stdout
    assert "#SBATCH --partition=gpu" in result.stdout
    assert result.stdout.endswith("# then, when all have succeeded, a job in out/ranking\n")
    assert not [*tmp_path.glob("out/*/config.yaml")]


def test_a_comparison_is_not_started_by_the_local_launcher() -> None:
    with pytest.raises(UserError, match="use: ssl-zoo compare --jobs N"):
        submit("compare", "simclr", "--launcher", "local")
