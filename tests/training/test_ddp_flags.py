"""How gradients are averaged over ranks: as on a GPU they equal those of one process too."""

from unittest import mock

import pytest
import torch

from ssl_zoo.testing import ranks
from ssl_zoo.testing.pretended_gpu import GPU
from ssl_zoo.training import build
from tests.distributed import run_on_ranks
from tests.small import LOCAL_CROPS

CPU = torch.device("cpu")
NAMES = ("swav", "moco_v2")
"""One with frozen prototypes, and one with a teacher."""


def steps_as_on_gpus() -> dict[str, list[ranks.Step]]:
    with mock.patch.object(build, "ddp_flags", return_value=build.ddp_flags(GPU)):
        return {name: ranks.steps(name, LOCAL_CROPS) for name in NAMES}


@pytest.mark.distributed
def test_flags_for_gpus_give_the_gradients_of_one_process() -> None:
    """Also of the first step, which torch averages at another place with some flags."""
    on_two = run_on_ranks(steps_as_on_gpus, 2)
    for name in NAMES:
        alone = ranks.steps(name, LOCAL_CROPS)
        ranks.assert_same_steps(name, alone, [found[name] for found in on_two])


def test_cpu_ranks_look_for_unused_parameters_to_resume_exactly() -> None:
    assert build.ddp_flags(CPU) == {"find_unused_parameters": True}


def test_so_do_gpus_with_deterministic_kernels() -> None:
    assert build.ddp_flags(GPU, deterministic=True) == {"find_unused_parameters": True}
