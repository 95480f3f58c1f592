"""torch and faiss in one process: both orders of import work, and one pool of threads serves both."""

import sys
from pathlib import Path

import pytest

from tests.subprocesses import run

PROGRAM = """
import re
{first}
import numpy as np
import torch
torch.set_num_threads(3)
def threads():
    return int(re.search(r"Threads:\\s+(\\d+)", open("/proc/self/status").read())[1])
matrix = torch.ones(1500, 1500)
matrix @ matrix
before = threads()
from ssl_zoo.evaluators.search.exact import nearest
values = np.random.default_rng(0).random((20_000, 64), dtype=np.float32)
found = nearest(values, values[:2000], k=3)[1]
import faiss
matrix @ matrix
print((found[:, 0] == np.arange(2000)).all(), threads() - before, faiss.omp_get_max_threads())
"""


def printed(first: str, tmp_path: Path) -> list[str]:
    return run(sys.executable, "-c", PROGRAM.format(first=first), cwd=tmp_path).stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_faiss_searches_with_the_threads_of_torch(tmp_path: Path) -> None:
    assert printed("", tmp_path) == ["True", "0", "3"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_faiss_may_be_imported_before_torch(tmp_path: Path) -> None:
    assert printed("import faiss", tmp_path)[0] == "True"
