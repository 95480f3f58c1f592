"""A self-supervised learning zoo: methods by name, trained, resumed, scored and compared.

Attributes are imported on first use, so `import ssl_zoo` does not import torch. Modules bear other
names than the functions they export: importing `ssl_zoo.training` must not shadow `ssl_zoo.train`.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo._version import __version__

if TYPE_CHECKING:
    from ssl_zoo.comparison import compare
    from ssl_zoo.evaluation import evaluate
    from ssl_zoo.launch.slurm_config import SlurmConfig
    from ssl_zoo.launch.submission import submit
    from ssl_zoo.loading import load
    from ssl_zoo.run_config import RunConfig, run_config
    from ssl_zoo.training import train

# A checkout keeps `methods/` and `model_cards/` beside this folder; an installed package has them inside.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "methods" / "__init__.py").is_file() and (_ROOT / "setup.cfg").is_file():
    __path__.append(str(_ROOT))

_EXPORTS = {
    "RunConfig": "ssl_zoo.run_config",
    "run_config": "ssl_zoo.run_config",
    "train": "ssl_zoo.training",
    "evaluate": "ssl_zoo.evaluation",
    "compare": "ssl_zoo.comparison",
    "load": "ssl_zoo.loading",
    "submit": "ssl_zoo.launch.submission",
    "SlurmConfig": "ssl_zoo.launch.slurm_config",
}

__all__ = [
    "RunConfig",
    "SlurmConfig",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "run_config",
    "submit",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ssl_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
