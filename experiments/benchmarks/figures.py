"""What all benchmarks write beside their times: the processor, and numbers of few digits."""

import platform
from pathlib import Path
from typing import Any


def rounded(value: Any, digits: int = 3) -> Any:
    """Returns numbers in lists and mappings with so many significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def processor() -> str:
    """Returns the name of the processor and its extensions for matrices and bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    extras = [one for one in ("avx512f", "avx512_bf16", "amx_bf16") if f" {one}" in flags]
    return f"{names[0] if names else platform.processor()} ({', '.join(extras)})"
