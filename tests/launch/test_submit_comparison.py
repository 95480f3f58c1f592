"""A comparison as jobs: an array of its runs and a last job that ranks; sbatch is a fake."""

import json
import shutil
from pathlib import Path

import pytest

from ssl_zoo.comparison.ranking import Comparison
from ssl_zoo.comparison.request import ComparisonRequest, RankingFolder
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.jobs.status import status
from ssl_zoo.launch.submit import execute
from ssl_zoo.launch.submit_comparison import plan_ranking, plan_training, prepare_submission
from ssl_zoo.runs.history import History
from tests.launch.site import Site, make_site
from tests.small import FAST, SHORT


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def asked(output: Path, *overrides: str, budget: str | None = None) -> ComparisonRequest:
    knn = EvaluationConfig.model_validate({"evaluators": [{"name": "knn", "n_resamples": 100}]})
    return ComparisonRequest(
        methods=["simclr"],
        seeds=2,
        budget=budget,
        output=str(output),
        overrides=[*FAST, "global_batch_size=256", *overrides],
        evaluation=knn,
    )


def test_the_runs_are_an_array_and_the_last_job_waits_for_all(site: Site, tmp_path: Path) -> None:
    request = asked(
        tmp_path / "out", "slurm.partition=gpu", "slurm.mem_gb=4", budget="1000 images"
    )
    prepared = prepare_submission(request)
    training = plan_training(prepared)
    assert training is not None
    execute(training, "slurm")
    site.queue("7_0", "7_1")
    ranking = plan_ranking(prepared)
    execute(ranking, "slurm")
    assert "#SBATCH --array=0-1%2\n" in site.scripts
    assert "#SBATCH --dependency=afterok:7_0:7_1\n" in site.scripts
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in site.scripts
    assert site.scripts.count("#SBATCH --partition=gpu\n") == 2
    folder = tmp_path / "out" / "ranking"
    assert History(folder).read()[-1].job == "8"
    assert RankingFolder(folder).read() == prepared.request
    runs = sorted((tmp_path / "out").glob("simclr-*/config.yaml"))
    assert len(runs) == 2
    # Again, while all is in the queue: the array is not submitted twice.
    site.queue("7_0", "7_1", "8")
    again = plan_training(prepare_submission(request))
    assert again is not None
    assert again.targets == []
    with pytest.raises(UserError, match="ranking' is running as job 8"):
        plan_ranking(prepare_submission(request))


def test_the_last_job_ranks_what_was_trained(site: Site, tmp_path: Path) -> None:
    """By the launcher that runs jobs in this process; the last one trains nothing."""
    prepared = prepare_submission(asked(tmp_path / "out", *SHORT))
    training = plan_training(prepared)
    assert training is not None
    execute(training, "debug")
    assert plan_training(prepared) is None
    execute(plan_ranking(prepared), "debug")
    found = Comparison.load(tmp_path / "out")
    assert found.rows[0].name == "simclr"
    assert found.seeds == 2
    folder = tmp_path / "out" / "ranking"
    assert [event.event for event in History(folder).read()] == [
        "submitted",
        "started",
        "complete",
    ]
    assert status(folder).state == "COMPLETE"


def test_a_budget_of_time_is_not_measured_here(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--budget 2h would be timed on this machine"):
        prepare_submission(asked(tmp_path / "out", budget="2h"))
    assert not (tmp_path / "out").exists()


def test_nothing_is_ranked_before_it_is_submitted(site: Site, tmp_path: Path) -> None:
    prepared = prepare_submission(asked(tmp_path / "out", *SHORT))
    with pytest.raises(UserError, match="neither complete nor in the queue"):
        plan_ranking(prepared)


def test_a_damaged_request_is_named(tmp_path: Path) -> None:
    folder = RankingFolder(tmp_path / "ranking")
    folder.create(asked(tmp_path))
    folder.request_file.write_text(json.dumps({"methods": 3}))
    with pytest.raises(UserError, match="compare.json"):
        folder.read()
    shutil.rmtree(folder.path)
    with pytest.raises(UserError, match="cannot be read"):
        folder.read()
