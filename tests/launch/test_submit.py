"""What a submission writes, whom it leaves alone, and what it refuses; sbatch is a fake."""

import json
from pathlib import Path
from typing import Any

import pytest

import ssl_zoo
from ssl_zoo.config import read_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import ScoringConfig, read_request
from ssl_zoo.evaluation.folder import ScoringFolder, scoring_folder
from ssl_zoo.evaluation.result import Result
from ssl_zoo.launch import control, snapshot
from ssl_zoo.launch.submit import Plan, execute, plan_runs, plan_scoring
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History
from ssl_zoo.runs.slurm import SlurmConfig
from ssl_zoo.runs.sweep import configs, sweep_folders
from tests.launch.site import Site, make_site
from tests.small import FAST, SHORT, fast_config


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def test_a_run_folder_is_whole_before_the_job_exists(site: Site, tmp_path: Path) -> None:
    site.client(
        "sbatch", f"#!/bin/sh\nls -a {tmp_path}/run {tmp_path}/run/code >{tmp_path}/seen\nexit 1\n"
    )
    with pytest.raises(UserError, match="sbatch refused the job"):
        ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    seen = (tmp_path / "seen").read_text().split()
    assert {"config.yaml", "code", "ssl_zoo", "methods", "snapshot.json"} <= set(seen)
    assert not (tmp_path / "run").exists()  # refused: no trace is left


def test_a_submitted_run_holds_its_settings_code_and_job(site: Site, tmp_path: Path) -> None:
    config = fast_config("swav", "seed=3", "slurm.partition=gpu", "slurm.mem_gb=4")
    folder = ssl_zoo.submit(config, output=tmp_path / "run")
    assert folder == tmp_path / "run"
    assert RunFolder(folder).config() == config
    (event,) = History(folder).read()
    assert (event.event, event.job, event.launcher) == ("submitted", "7", "slurm")
    facts = snapshot.read_snapshot(folder / "code")
    assert facts is not None
    assert event.commit == facts["commit"]
    assert "#SBATCH --partition=gpu\n" in site.scripts
    assert f"export PYTHONPATH={folder}/code" in site.scripts


def test_what_is_planned_is_what_is_submitted(site: Site, tmp_path: Path) -> None:
    plan = plan_runs([fast_config("swav")], [tmp_path / "run"])
    planned = plan.script
    assert [*tmp_path.glob("run")] == []  # a plan writes nothing
    execute(plan, "slurm")
    assert site.scripts == planned


def test_settings_of_the_site_are_kept_with_the_run(site: Site, tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("partition: gpu\ntimeout_min: 240\nsetup: [module load cuda]\n")
    config = fast_config("swav", "slurm.timeout_min=60")
    execute(plan_runs([config], [tmp_path / "run"], site=str(profile)), "slurm")
    assert read_yaml(tmp_path / "run" / "config.yaml")["slurm"] == {
        "partition": "gpu",
        "timeout_min": 60,
        "setup": ["module load cuda"],
    }


def test_a_run_in_the_queue_is_not_submitted_twice(site: Site, tmp_path: Path) -> None:
    ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    site.queue("7")
    with pytest.raises(UserError, match=r"run' is running as job 7; see ssl-zoo jobs"):
        ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")


def test_a_run_is_not_robbed_while_squeue_is_silent(site: Site, tmp_path: Path) -> None:
    folder = ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    site.client("squeue", "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(UserError, match="it is not known whether that still runs: .*Unable to"):
        ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=folder)
    History(folder).add(Event("stopped", step=3))
    ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=folder)
    assert History(folder).read()[-1].job == "8"


def test_settings_are_not_changed_under_a_process_that_trains(site: Site, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(fast_config("swav", "seed=1"))
    with folder.lock(), pytest.raises(UserError, match="another process is training in"):
        ssl_zoo.submit(fast_config("swav", "seed=2"), SlurmConfig(), output=folder.path)
    assert folder.config().seed == 1


def test_a_job_works_where_its_run_was_submitted_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `data.root=data` would mean another folder when it is submitted again."""
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    assert site.scripts.count(f"\ncd {tmp_path}/here\n") == 2


def test_debugging_a_sweep_twice_continues(tmp_path: Path) -> None:
    runs = configs("simclr", ["seed=0..1"], overrides=[*FAST, *SHORT])
    for _ in range(2):
        plan = plan_runs(runs, sweep_folders(runs, tmp_path / "sweep"))
        assert len(plan.targets) in (2, 0)
        execute(plan, "debug")
    for folder in sweep_folders(runs, tmp_path / "sweep"):
        assert RunFolder(folder).is_complete


def test_a_job_that_is_gone_is_followed_by_another_with_the_same_code(
    site: Site, tmp_path: Path
) -> None:
    folder = ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    mark = folder / "code" / "ssl_zoo" / "mark.py"
    mark.touch()
    ssl_zoo.submit(fast_config("swav"), SlurmConfig(mem_gb=9), output=folder)
    assert [event.job for event in History(folder).read()] == ["7", "8"]
    assert mark.exists()
    assert RunFolder(folder).config().slurm.mem_gb == 9


def test_a_job_that_is_over_can_be_requeued_by_name(site: Site, tmp_path: Path) -> None:
    folder = ssl_zoo.submit(fast_config("swav", "slurm.mem_gb=9"), output=tmp_path / "run")
    (tmp_path / "profiles" / "ssl-zoo" / "slurm").mkdir(parents=True)
    (tmp_path / "profiles" / "ssl-zoo" / "slurm" / "default.yaml").write_text("qos: new\n")
    assert "submitted again as job 8" in control.requeue(folder)
    assert History(folder).read()[-1].job == "8"
    assert site.scripts.count("#SBATCH --mem=9GB") == 2
    assert "qos" not in site.scripts  # as it was submitted before


def test_a_complete_run_is_left_alone(site: Site, small_run: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(small_run, tmp_path / "run")
    config = RunFolder(folder).config()
    ssl_zoo.submit(config, SlurmConfig(), output=folder)
    assert site.scripts == ""


def test_a_folder_of_another_run_is_refused(site: Site, small_run: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(small_run, tmp_path / "run")
    with pytest.raises(UserError, match="was made by another config"):
        ssl_zoo.submit(fast_config("simclr", *SHORT, "seed=9"), SlurmConfig(), output=folder)


def test_a_batch_that_does_not_split_is_refused_before_the_queue(
    site: Site, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="global_batch_size of 32 cannot be split over"):
        ssl_zoo.submit(
            fast_config("swav"), SlurmConfig(nodes=3, gpus_per_node=8), output=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def sweep(tmp_path: Path, *more: str) -> Plan:
    runs = configs(None, ["method=swav,simclr", "seed=0..2"], overrides=["epochs=2", *more])
    return plan_runs(runs, sweep_folders(runs, tmp_path / "sweep"))


def test_a_sweep_is_one_array_with_a_folder_for_each_point(site: Site, tmp_path: Path) -> None:
    plan = sweep(tmp_path, "slurm.array_parallelism=2")
    planned = plan.script
    execute(plan, "slurm")
    assert site.scripts == planned
    assert "#SBATCH --array=0-5%2\n" in planned
    folders = sorted(path.parent for path in (tmp_path / "sweep").glob("*/config.yaml"))
    assert len(folders) == 6
    jobs = {str(History(folder).read()[-1].job): folder for folder in folders}
    assert sorted(jobs) == [f"7_{index}" for index in range(6)]
    points = next((tmp_path / "sweep" / "submit").glob("points-*.txt")).read_text().splitlines()
    assert points == [str(jobs[f"7_{index}"] / "code") for index in range(6)]


def test_logs_of_a_point_are_found_in_its_folder(site: Site, tmp_path: Path) -> None:
    plan = sweep(tmp_path, "slurm.tasks_per_node=2")
    execute(plan, "slurm")
    (tmp_path / "sweep" / "submit" / "7_4_1_log.out").write_text("hello\n")
    own = plan.targets[4].path / "submit" / "7_4_1_log.out"
    assert own.read_text() == "hello\n"


def test_only_the_points_that_are_missing_are_submitted(site: Site, tmp_path: Path) -> None:
    first = sweep(tmp_path)
    execute(first, "slurm")
    (first.targets[0].path / "complete.json").write_text("{}")
    site.queue("7_1", "7_2")
    second = sweep(tmp_path)
    assert [target.path for target in second.targets] == [t.path for t in first.targets[3:]]
    reasons = [reason for _, reason in second.skipped]
    assert reasons == ["complete", "running as job 7_1", "running as job 7_2"]
    execute(second, "slurm")
    assert "#SBATCH --array=0-2%3\n" in site.scripts
    last = [History(target.path).read()[-1].job for target in second.targets]
    assert last == ["8_0", "8_1", "8_2"]


def test_points_of_a_sweep_share_the_settings_of_their_array(site: Site, tmp_path: Path) -> None:
    runs = configs("swav", ["seed=0..1"])
    other = runs[1].model_copy(update={"slurm": SlurmConfig(mem_gb=3)})
    with pytest.raises(UserError, match="share the settings under 'slurm'"):
        plan_runs([runs[0], other], sweep_folders(runs, tmp_path))


def test_scores_can_wait_for_training(site: Site, tmp_path: Path) -> None:
    run = ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    site.queue("7")
    config = scoring(str(run), "slurm.mem_gb=4", "slurm.dependency=afterany:3")
    plan = plan_scoring(config, scoring_folder(config), after=[run])
    execute(plan, "slurm")
    assert "#SBATCH --dependency=afterany:3,afterok:7\n" in site.scripts
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in site.scripts
    folder = plan.targets[0].path
    assert folder.parent == run
    request = json.loads((folder / "evaluate.json").read_text())
    assert (request["checkpoint"], request["slurm"]["mem_gb"]) == (str(run), 4)


def test_scores_of_a_complete_run_need_not_wait(
    site: Site, small_run: Path, tmp_path: Path
) -> None:
    plan = plan_scoring(scoring(str(small_run)), tmp_path / "scores", after=[small_run])
    assert "dependency" not in plan.script


def test_nothing_comes_after_a_run_that_nobody_trains(site: Site, tmp_path: Path) -> None:
    run = ssl_zoo.submit(fast_config("swav"), SlurmConfig(), output=tmp_path / "run")
    with pytest.raises(UserError, match="neither complete nor in the queue"):
        plan_scoring(scoring(str(run)), tmp_path / "scores", after=[run])


def scoring(what: str, *overrides: str) -> ScoringConfig:
    fields = {"checkpoint": what, "evaluators": ["knn"]}
    return read_request(ScoringConfig, fields=fields, overrides=overrides)


@pytest.mark.parametrize(
    ("evaluators", "dataset", "overrides", "complaint"),
    [
        (["knm"], None, [], "unknown evaluator 'knm'. Did you mean 'knn'?"),
        (["knn"], "digit", [], "unknown dataset 'digit'"),
        (["knn"], None, ["slurm.partitoin=x"], "unknown key 'slurm.partitoin'"),
    ],
)
def test_a_wrong_request_is_refused_before_the_queue(
    evaluators: list[str], dataset: str | None, overrides: list[str], complaint: str
) -> None:
    fields = {"checkpoint": "runs/x", "data": dataset, "evaluators": evaluators}
    with pytest.raises(UserError) as caught:
        read_request(ScoringConfig, fields=fields, overrides=overrides)
    assert complaint in str(caught.value)


def test_what_changes_scores_changes_the_folder_of_a_scoring_job() -> None:
    changes: dict[str, Any] = {
        "seed": 0,
        "layer": "layer3",
        "precision": "bf16",
        "image_size": 64,
        "batch_size": 8,
        "evaluators": [{"name": "knn", "k": [1]}],
        "format": "torchvision",
    }
    digests = {
        name: read_request(ScoringConfig, fields={"checkpoint": "runs/x", name: value}).digest()
        for name, value in changes.items()
    }
    assert digests["batch_size"] == digests["seed"]
    assert len(set(digests.values())) == 6


def test_a_scoring_job_scores_as_it_was_told(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    fields = {"checkpoint": str(small_run), "evaluators": [{"name": "knn", "k": [3]}]}
    fields |= {"layer": "stages.0", "precision": "bf16"}
    config = read_request(ScoringConfig, fields=fields)
    execute(plan_scoring(config, tmp_path / "scores"), "debug")
    result = Result.load(ScoringFolder(tmp_path / "scores").result_file)
    assert (result.layer, result.precision) == ("stages.0", "bf16")
    assert "top1@k=3" in result.evaluators["knn"].scores


def test_scoring_jobs_run_in_this_process_for_debugging(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    config = scoring(str(small_run))
    execute(plan_scoring(config, tmp_path / "scores"), "debug")
    folder = ScoringFolder(tmp_path / "scores")
    assert folder.is_complete
    assert [e.event for e in folder.history.read()] == ["submitted", "started", "complete"]
    again = plan_scoring(config, tmp_path / "scores")
    assert (again.targets, again.skipped) == ([], [(folder.path, "complete")])


def test_runs_train_in_this_process_for_debugging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    config = fast_config("simclr", *SHORT)
    folder = ssl_zoo.submit(config, SlurmConfig(), output=tmp_path / "run", launcher="debug")
    assert RunFolder(folder).is_complete
    assert checkpoint.found(folder / "checkpoints")


def test_this_machine_takes_one_job(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--launcher local starts one job, .* 6"):
        execute(sweep(tmp_path), "local")
    assert not (tmp_path / "sweep").exists()
