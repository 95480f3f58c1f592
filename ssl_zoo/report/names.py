"""The names that other functions take: of methods, and of networks with weights."""

from ssl_zoo.method import METHODS
from ssl_zoo.weights.open import card_files
from ssl_zoo.weights.published import published_names


def list_methods() -> list[str]:
    """Returns the methods that `train`, `compare` and `run_config` take, those of plug-ins included."""
    return METHODS.names()


def list_models() -> list[str]:
    """Returns the networks that `load` and `evaluate` take by name: model cards, then published weights."""
    return [*card_files(), *published_names()]
