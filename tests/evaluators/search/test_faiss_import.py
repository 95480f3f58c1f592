"""faiss on processors that its linear algebra does not know."""

import os
from pathlib import Path

import pytest

from ssl_zoo.evaluators.search import faiss_import
from ssl_zoo.evaluators.search.faiss_import import CORE, known_core

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORE, raising=False)


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, vendor: str, flags: str) -> None:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu avx2 {flags}\n")
    monkeypatch.setattr(faiss_import, "CPUINFO", file)


@pytest.mark.parametrize(
    ("vendor", "flags", "core"),
    [
        ("GenuineIntel", AVX512, "SkylakeX"),
        ("GenuineIntel", "avx512f", None),
        ("AuthenticAMD", AVX512, None),
    ],
)
def test_what_an_intel_processor_can_do_is_passed_for_the_import_alone(
    vendor: str, flags: str, core: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, tmp_path, vendor, flags)
    with known_core():
        assert os.environ.get(CORE) == core
    assert CORE not in os.environ


def test_what_the_user_says_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, tmp_path, "GenuineIntel", AVX512)
    monkeypatch.setenv(CORE, "Haswell")
    with known_core():
        assert os.environ[CORE] == "Haswell"
    assert os.environ[CORE] == "Haswell"


def test_a_system_that_tells_nothing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_import, "CPUINFO", tmp_path / "none")
    with known_core():
        assert CORE not in os.environ
