"""What can be compared, and whose settings are whose."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.comparison.contenders import contenders, is_for_one
from ssl_zoo.comparison.ranking import COMPARISON_FILE
from ssl_zoo.config import dump_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from tests.small import FAST, SHORT

KNN: dict[str, Any] = {"name": "knn", "n_resamples": 100}


def test_a_setting_may_be_for_one_method_alone() -> None:
    overrides = ["epochs=3", "swav:epochs=5", "swav:method.temperature=0.2"]
    swav, simclr = contenders(["swav", "simclr"], recipe="digits", seeds=2, overrides=overrides)
    assert [config.epochs for config in (*swav.configs, *simclr.configs)] == [5, 5, 3, 3]
    assert swav.configs[0].method.model_dump()["temperature"] == 0.2
    assert [config.seed for config in swav.configs] == [0, 1]


def test_a_setting_for_nobody_names_who_is_compared() -> None:
    with pytest.raises(UserError, match="for 'swaw'.* Did you mean 'swav'\\? Compared are: swav"):
        contenders(["swav"], recipe="digits", seeds=1, overrides=["swaw:epochs=3"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("swav:method.n_prototypes=[50]", True),
        ("swav@digits:epochs=3", True),
        ("epochs=3", False),
        ("data.root=http://x:y=3", False),
        ("swav", False),
        ("torchvision:resnet50", False),
    ],
)
def test_a_setting_for_one_is_recognised(text: str, expected: bool) -> None:
    assert is_for_one(text) is expected


def test_a_yaml_file_is_a_contender(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump_yaml(run_config("simclr", overrides=["epochs=7"])))
    (one,) = contenders([str(file)], recipe="digits", seeds=1, overrides=["global_batch_size=64"])
    assert (one.configs[0].epochs, one.configs[0].global_batch_size) == (7, 64)


def test_a_trained_run_is_scored_as_it_is(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    checkpoints = sorted((run / "checkpoints").iterdir())
    overrides = [f"simclr:{text}" for text in (*FAST, *SHORT)]
    config = RunFolder(run).config()
    overrides += [f"simclr:backbone={config.backbone.model_dump(mode='json')}"]
    found = compare(
        [str(run), "simclr"], evaluators=[KNN], output=tmp_path / "out", overrides=overrides
    )
    assert {row.name for row in found.rows[:2]} == {str(run), "simclr"}
    assert sorted((run / "checkpoints").iterdir()) == checkpoints
    assert (run / "evaluation.json").is_file()
    assert compare([str(tmp_path / "out")]) == found  # the folder of a comparison is read


@pytest.mark.parametrize(
    ("seeds", "overrides", "message"),
    [(3, [], "one seed.* 3 seeds"), (1, ["epochs=3"], "already trained.* epochs=3")],
)
def test_a_trained_run_takes_neither_seeds_nor_settings(
    seeds: int, overrides: list[str], message: str, small_run: Path
) -> None:
    with pytest.raises(UserError, match=message):
        contenders([str(small_run)], recipe="digits", seeds=seeds, overrides=overrides)


def test_a_run_that_is_not_finished_is_refused(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    (run / "complete.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        contenders([str(run)], recipe="digits", seeds=1, overrides=[])


def test_a_comparison_is_no_contender(tmp_path: Path) -> None:
    (tmp_path / COMPARISON_FILE).write_text("{}")
    with pytest.raises(UserError, match="is a comparison; give it alone"):
        contenders([str(tmp_path), "swav"], recipe="digits", seeds=1, overrides=[])


def test_settings_alone_compare_nothing() -> None:
    with pytest.raises(UserError, match="give a method, a YAML file or a run folder"):
        contenders([], recipe="digits", seeds=1, overrides=["epochs=3"])


def test_a_run_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run '.*/a b', which may have been moved"):
        contenders([str(tmp_path / "a b")], seeds=1, overrides=[])
