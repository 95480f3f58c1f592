"""One rank equals two, for every registered method: the same global batches, the same gradients."""

import traceback

import pytest

from ssl_zoo.method import METHODS
from ssl_zoo.testing import ranks
from tests.distributed import run_on_ranks
from tests.small import LOCAL_CROPS

EXTRA = {
    "dino": ["method.centering=mean", "method.center_momentum=0.5"],
    "moco_v2": ["method.queue_length=64"],
    "nnclr": ["method.queue_length=64"],
    "self_classifier": ["method.queue_length=64"],
    "swav": ["method.queue_length=64", "method.queue_start=0 epochs"],
}
"""Settings that make what is shared between ranks matter within a few steps."""
TRAINED = [name for name in METHODS if METHODS[name].trains]


def steps(method_name: str) -> list[ranks.Step]:
    return ranks.steps(method_name, [*LOCAL_CROPS, *EXTRA.get(method_name, [])])


def of_all_methods() -> dict[str, list[ranks.Step]]:
    """Returns the steps of each method; one that fails on all ranks has none."""
    found: dict[str, list[ranks.Step]] = {}
    for name in TRAINED:
        try:
            found[name] = steps(name)
        except Exception:
            traceback.print_exc()
            found[name] = []
    return found


@pytest.fixture(scope="module")
def on_two_ranks() -> list[dict[str, list[ranks.Step]]]:
    """The steps of all methods, of each of two ranks; together, since processes take long to start."""
    return run_on_ranks(of_all_methods, 2)


@pytest.mark.distributed
@pytest.mark.parametrize("method_name", TRAINED)
def test_two_ranks_take_the_steps_of_one(
    method_name: str, on_two_ranks: list[dict[str, list[ranks.Step]]]
) -> None:
    ranks.assert_same_steps(
        method_name, steps(method_name), [found[method_name] for found in on_two_ranks]
    )
