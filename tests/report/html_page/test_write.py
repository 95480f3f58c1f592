"""The page as a whole: one file, safe with any name, readable when much is missing."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.cli.main import cli
from ssl_zoo.errors import UserError
from ssl_zoo.report.html_page.write import read_page, write_report
from ssl_zoo.runs.config import run_config
from ssl_zoo.training.train import train
from tests.evaluation.results import small_result
from tests.report.html_page.pages import read

EVIL = "<script>alert(1)</script><b>&"


@pytest.fixture(scope="module")
def page(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with everything that can be shown."""
    output = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report([small_run], output) == []
    return output


def test_a_page_loads_nothing_from_anywhere(page: Path) -> None:
    found = read(page)
    assert [one[:11] for one in found.loads] == ["data:image/"]
    styles = re.findall(r"<style>(.*?)</style>", page.read_text(), re.DOTALL)
    assert not re.search(r"url\(|@import", "".join(styles))
    assert "default-src 'none'" in page.read_text()[:2000]


def test_a_page_shows_curves_views_and_a_map(page: Path) -> None:
    found = read(page)
    for heading in ("Training", "Views of training", "Map of test images", "Provenance"):
        assert heading in found.text
    loss = found.data["charts"][0]
    assert len(loss[0]["y"]) == len(loss[0]["steps"]) == len(loss[0]["epochs"]) > 0
    (places,) = found.data["maps"]
    assert len(places["x"]) == len(places["class"]) == len(places["text"]) > 0


def test_a_page_of_four_runs_is_small(small_run: Path, tmp_path: Path) -> None:
    runs = [shutil.copytree(small_run, tmp_path / f"run{number}") for number in range(4)]
    write_report(runs, tmp_path / "four.html")
    assert (tmp_path / "four.html").stat().st_size < 10e6


def test_a_part_without_content_is_left_out(small_run: Path, tmp_path: Path) -> None:
    write_report([small_run], tmp_path / "r.html", with_map=False, with_views=False)
    found = read(tmp_path / "r.html")
    for heading in ("Map of", "Views of", "Leaderboard", "Settings that differ", "Alarms"):
        assert heading not in found.text


def test_markup_in_the_name_of_a_run_is_text(small_run: Path, tmp_path: Path) -> None:
    evil = EVIL.replace("/", "")
    run = shutil.copytree(small_run, tmp_path / evil)
    usual = tmp_path / "usual.html"
    write_report([small_run], usual, with_map=False)
    write_report([run], tmp_path / "evil.html", with_map=False)
    found = read(tmp_path / "evil.html")
    assert evil in found.text
    assert found.tags == read(usual).tags
    assert "<script>alert" not in (tmp_path / "evil.html").read_text()
    assert (
        found.data["charts"][0][0]["name"] == "&lt;script&gt;alert(1)&lt;script&gt;&lt;b&gt;&amp;"
    )


def test_markup_in_the_name_of_a_class_is_text(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 12, 12, 3), dtype=np.uint8)
    names = np.array([EVIL, "plain"])
    np.savez(tmp_path / "x.npz", x=images, y=names[np.arange(40) % 2])
    overrides = [
        "data.name=arrays", f"data.file={tmp_path}/x.npz", "data.images=x", "data.labels=y",
        "data.test=50%", "epochs=1", "global_batch_size=10", "evaluation.every=0 epochs",
        "schedule.warmup=0 steps",
    ]  # fmt: skip
    train(run_config("simclr", overrides=overrides), tmp_path / "run")
    assert write_report([tmp_path / "run"], tmp_path / "r.html", with_views=False) == []
    (places,) = read(tmp_path / "r.html").data["maps"]
    assert places["classes"][0] == "&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;&amp;"
    assert "<script>alert" not in (tmp_path / "r.html").read_text()


def test_a_damaged_and_unfinished_run_is_shown_with_a_note(
    small_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    (run / "complete.json").unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "evaluation.json").write_text("{")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "seconds": 9.0, "train/loss": NaN}\n{"step": 100, "sec')
    notes = write_report([run], tmp_path / "r.html")
    found = read(tmp_path / "r.html")
    assert len(notes) == 4
    assert all(note in found.text for note in notes)
    assert found.data["charts"][0][0]["y"][-1] is None


def test_settings_of_another_version_cost_alarms_and_pictures_only(
    small_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    config = run / "config.yaml"
    config.write_text(config.read_text() + "of_the_future: 1\n")
    (note,) = write_report([run], tmp_path / "r.html")
    assert "of_the_future" in note
    assert read(tmp_path / "r.html").data["charts"]


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_named_with_its_extra(
    package: str, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}, which is not .* 'ssl-zoo\[report\]'"):
        write_report([small_run], tmp_path / "r.html")


def test_only_a_page_is_replaced(page: Path, tmp_path: Path) -> None:
    read_page(page)
    (tmp_path / "mine.html").write_text("<!DOCTYPE html><p>mine")
    with pytest.raises(UserError, match="not a page of ssl-zoo report"):
        read_page(tmp_path / "mine.html")


def test_results_are_tested_against_the_best(tmp_path: Path) -> None:
    for name, value in (("low", 40.0), ("high", 60.0)):
        result = small_result(f"runs/{name}", scores={"top1@k=20": value})
        result.save(tmp_path / f"{name}.json")
    files = [str(tmp_path / f"{name}.json") for name in ("low", "high")]
    cli(["report", *files, "-o", str(tmp_path / "r.html")], standalone_mode=False)
    board, *_ = read(tmp_path / "r.html").tables
    assert [row[0] for row in board.rows] == ["high", "low"]


def test_the_filter_of_a_leaderboard_shows_only_where_it_works(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(small_result("a").model_dump_json())
    write_report([file], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert re.search(r'<p class="controls" id="filter" hidden>', text)  # until the script runs


def test_a_result_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    old = json.loads(small_result("a").json_text())
    (tmp_path / "new.json").write_text(json.dumps({**old, "schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99"):
        write_report([tmp_path / "new.json"], tmp_path / "r.html")


def test_a_result_of_the_first_schema_is_read(tmp_path: Path) -> None:
    old = json.loads(small_result("first").json_text())
    del old["schema_version"]
    old["transform"] = old["evaluators"]["knn"].pop("view")
    (tmp_path / "old.json").write_text(json.dumps(old))
    write_report([tmp_path / "old.json"], tmp_path / "r.html")
    assert "first" in read(tmp_path / "r.html").text
