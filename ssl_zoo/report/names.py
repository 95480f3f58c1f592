"""Names accepted by other functions: of methods, and of networks with weights."""

from ssl_zoo.method import METHODS
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.weights.published import published_names


def list_methods() -> list[str]:
    """Returns the names of methods for `train`, `compare` and `run_config`, including plug-ins."""
    return METHODS.names()


def list_models() -> list[str]:
    """Returns the names of networks for `load` and `evaluate`: model cards, then published weights."""
    return [*card_files(), *published_names()]
