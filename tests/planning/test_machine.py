"""What a machine offers."""

import os
from pathlib import Path

import pytest

from ssl_zoo.data import cores
from ssl_zoo.planning import machine
from ssl_zoo.planning.machine import Machine, this_machine


def test_a_machine_is_described_in_a_few_words() -> None:
    assert str(Machine(cores=2, memory_gb=24.2)) == "2 cores, 24 GB, no GPU"
    assert str(Machine(cores=1, memory_gb=0, gpu="H200")) == "1 core, H200"


def test_this_machine_has_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    monkeypatch.setattr(cores, "_quota", lambda: None)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert this_machine().cores == 3


def test_a_container_has_its_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("2000000000\n")
    monkeypatch.setattr(machine, "_LIMITS", ("/nowhere", str(tmp_path / "memory.max")))
    assert this_machine().memory_gb == 2.0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", True), ("amx_bf16", True), ("fpu avx2", False)],
)
def test_a_processor_that_computes_in_bf16_is_known_by_its_flags(
    flags: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "_PROCESSORS", tmp_path / "cpuinfo")
    assert this_machine().cpu_has_bf16 is expected
    monkeypatch.setattr(machine, "_PROCESSORS", tmp_path / "missing")
    assert not this_machine().cpu_has_bf16
