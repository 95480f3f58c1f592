"""Faults of a machine."""

import importlib.metadata
import os
from pathlib import Path

import pytest
import torch

from ssl_zoo.data import cores
from ssl_zoo.doctor import of_machine
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.doctor.of_machine import machine_findings


def found(place: Path, check: str) -> Diagnosis:
    return next(one for one in machine_findings(place) if one.check == check)


def test_more_threads_than_cores_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "_quota", lambda: 2.5)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    fault = found(tmp_path, "threads")
    assert fault.says == "8 threads on 2 cores (control group)"
    assert fault.remedy == "set OMP_NUM_THREADS=2"


@pytest.mark.parametrize("check", ["disk", "shared memory"])
def test_too_little_room_is_found(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_machine, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(of_machine, "free_bytes", lambda _: 64_000_000)
    fault = found(tmp_path / "runs" / "none", check)
    assert "0.064 GB free" in fault.says
    assert fault.is_fault


def test_a_faiss_that_cannot_be_imported_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ImportError("libcublas.so.12: cannot open shared object file\nand more")

    monkeypatch.setattr(of_machine, "faiss", broken)
    fault = found(tmp_path, "faiss")
    assert fault.says == ("cannot be imported (libcublas.so.12: cannot open shared object file)")
    assert fault.remedy == "install faiss-gpu or faiss-cpu again"


def test_missing_packages_and_extras_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = [
        "torch>=2.4",
        "no-such-thing>=3",
        'faiss-none; platform_system == "Never"',
        'torchvision>=0.19; extra == "good"',
        'no-such-tool; extra == "bad"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requirements)
    fault = found(tmp_path, "packages")
    assert (fault.says, fault.remedy) == ("missing: no-such-thing", "pip install no-such-thing")
    extras = found(tmp_path, "extras")
    assert extras.says == ("installed: good; not installed: bad (pip install 'ssl-zoo[bad]')")
    assert not extras.is_fault
