"""The only module that imports faiss.

Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017 (arXiv:1702.08734).
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CORE = "OPENBLAS_CORETYPE"
"""Environment variable that tells OpenBLAS the processor type."""
CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def faiss() -> Any:
    """Returns the faiss module, sharing one OpenMP runtime with torch."""
    import torch  # noqa: F401  first, so that faiss uses torch's OpenMP runtime

    with known_core():
        import faiss  # isort: skip

    return faiss


@contextmanager
def known_core() -> Iterator[None]:
    """Sets the processor type for faiss's OpenBLAS, unless the user has set it.

    faiss-gpu 1.15 bundles OpenBLAS 0.3.15, which treats Intel processors since 2023 like the
    oldest ones; searches then take three times as long.
    """
    told = CORE not in os.environ and _is_intel_with_avx512()
    if told:
        os.environ[CORE] = "SkylakeX"
    try:
        yield
    finally:
        if told:
            del os.environ[CORE]


def _is_intel_with_avx512() -> bool:
    try:
        text = CPUINFO.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    needed = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
    return "GenuineIntel" in text and needed <= set(flags)
