"""A self-supervised learning zoo: methods by name, trained, resumed, scored and compared.

Attributes are imported on first use, so `import ssl_zoo` does not import torch. No public name is the
name of a submodule: importing the submodule would replace it.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_zoo._version import __version__

if TYPE_CHECKING:
    from ssl_zoo.comparison.compare import compare
    from ssl_zoo.comparison.ranking import Comparison
    from ssl_zoo.errors import UserError
    from ssl_zoo.evaluation.config import EvaluationConfig
    from ssl_zoo.evaluation.evaluate import evaluate
    from ssl_zoo.evaluation.result import Result
    from ssl_zoo.explore.classifier import ClassifierFacts, ImageClassifier, load_classifier
    from ssl_zoo.explore.classify import classify
    from ssl_zoo.explore.cluster import cluster
    from ssl_zoo.explore.clustered import Clusters
    from ssl_zoo.explore.config import ClassifyConfig, ClusterConfig, EmbedConfig
    from ssl_zoo.explore.embed import embed
    from ssl_zoo.explore.embedded import Embedded
    from ssl_zoo.launch.submit import submit
    from ssl_zoo.planning.plan import plan_run
    from ssl_zoo.report.names import list_methods, list_models
    from ssl_zoo.report.score_table import table
    from ssl_zoo.runs.config import RunConfig, run_config
    from ssl_zoo.runs.slurm import SlurmConfig
    from ssl_zoo.training.train import train
    from ssl_zoo.weights.open import load

# A checkout keeps `methods/` and `model_cards/` beside this folder; an installed package has them inside.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "methods" / "__init__.py").is_file() and (_ROOT / "setup.cfg").is_file():
    __path__.append(str(_ROOT))

_EXPORTS = {
    "ClassifierFacts": "ssl_zoo.explore.classifier",
    "ClassifyConfig": "ssl_zoo.explore.config",
    "ClusterConfig": "ssl_zoo.explore.config",
    "Clusters": "ssl_zoo.explore.clustered",
    "Comparison": "ssl_zoo.comparison.ranking",
    "EmbedConfig": "ssl_zoo.explore.config",
    "Embedded": "ssl_zoo.explore.embedded",
    "EvaluationConfig": "ssl_zoo.evaluation.config",
    "ImageClassifier": "ssl_zoo.explore.classifier",
    "Result": "ssl_zoo.evaluation.result",
    "RunConfig": "ssl_zoo.runs.config",
    "SlurmConfig": "ssl_zoo.runs.slurm",
    "UserError": "ssl_zoo.errors",
    "classify": "ssl_zoo.explore.classify",
    "cluster": "ssl_zoo.explore.cluster",
    "compare": "ssl_zoo.comparison.compare",
    "embed": "ssl_zoo.explore.embed",
    "evaluate": "ssl_zoo.evaluation.evaluate",
    "list_methods": "ssl_zoo.report.names",
    "list_models": "ssl_zoo.report.names",
    "load": "ssl_zoo.weights.open",
    "plan_run": "ssl_zoo.planning.plan",
    "load_classifier": "ssl_zoo.explore.classifier",
    "run_config": "ssl_zoo.runs.config",
    "submit": "ssl_zoo.launch.submit",
    "table": "ssl_zoo.report.score_table",
    "train": "ssl_zoo.training.train",
}

__all__ = [
    "ClassifierFacts",
    "ClassifyConfig",
    "ClusterConfig",
    "Clusters",
    "Comparison",
    "EmbedConfig",
    "Embedded",
    "EvaluationConfig",
    "ImageClassifier",
    "Result",
    "RunConfig",
    "SlurmConfig",
    "UserError",
    "__version__",
    "classify",
    "cluster",
    "compare",
    "embed",
    "evaluate",
    "list_methods",
    "list_models",
    "load",
    "load_classifier",
    "plan_run",
    "run_config",
    "submit",
    "table",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ssl_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
