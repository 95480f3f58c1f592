"""Cores, and who grants them."""

from pathlib import Path

import pytest

from ssl_zoo.data import cores
from ssl_zoo.data.cores import granted_cores
from ssl_zoo.planning.machine import this_machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [("150000 100000", 1), ("400000 100000", 4), ("max 100000", None), ("", None)],
)
def test_a_container_has_its_own_share_of_the_processors(
    text: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(cores, "_QUOTA", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(cores, "_QUOTA_1", ("/nowhere", "/nowhere"))
    assert granted_cores().get("control group") == expected


def test_an_older_container_says_its_share_in_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("quota", "200000\n"), ("period", "100000\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "_QUOTA", "/nowhere")
    monkeypatch.setattr(cores, "_QUOTA_1", (str(tmp_path / "quota"), str(tmp_path / "period")))
    assert granted_cores()["control group"] == 2


def test_a_job_has_the_cores_that_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert granted_cores()["SLURM"] == 1
    assert this_machine().cores == 1
