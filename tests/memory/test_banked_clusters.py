"""A bank and its clusterings as one part: which view, which points, when it is filled."""

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.memory import BankedClusters
from tests.small import Epoch, batch, progress, run_info

CPU = torch.device("cpu")


def embed(views: list[Tensor]) -> Tensor:
    """The mean of each global view's channels, `(V_g * B, 3)`."""
    assert len(views) == 1
    return views[0].flatten(0, 1).mean(dim=(2, 3))


def clusters(seed: int = 0) -> BankedClusters:
    torch.manual_seed(seed)
    made = BankedClusters([4, 5, 6], run=run_info(), setting="method.n")
    made.prepare(Epoch(), embed, device=CPU)
    return made


def test_clusterings_take_the_global_views_in_turn() -> None:
    made = clusters()
    views = torch.cat([found.by_view(embed(found.views[:1])) for found in Epoch().views()], dim=1)
    for number, view in ((0, 0), (1, 1), (2, 0)):
        assert torch.equal(made.points(number), views[view])


def test_a_bank_that_holds_embeddings_is_not_filled_again() -> None:
    made = clusters()
    before = made.points(0).clone()
    made.prepare(Epoch(), lambda views: 2 * embed(views), device=CPU)
    assert torch.equal(made.points(0), before)


def test_a_step_replaces_the_points_of_its_images_by_its_global_views() -> None:
    made, found = clusters(), batch(start=16)
    rows = torch.arange(96.0).view(32, 3)  # two global and two local views of 8 images
    made.keep(found, rows)
    made.bank.commit(progress(2))
    assert torch.equal(made.points(0)[16:24], rows[:8])
    assert torch.equal(made.points(1)[16:24], rows[8:16])


def test_as_many_points_are_drawn_as_there_are_clusters() -> None:
    first, again = clusters(), clusters()
    assert [len(first.sample(number, 0)) for number in range(3)] == [4, 5, 6]
    assert torch.equal(first.sample(0, 1), again.sample(0, 1))
    assert not torch.equal(first.sample(0, 1), first.sample(0, 2))


def test_clusters_are_targets_of_the_images_of_the_points() -> None:
    made = clusters()
    made.assign(1, torch.arange(80) % 5)
    assert made.targets.of(torch.tensor([7, 79]))[1].tolist() == [2, 4]


def test_more_clusters_than_images_are_refused_by_the_name_of_the_setting() -> None:
    with pytest.raises(UserError, match="method.n of 81 is above the 80 images"):
        BankedClusters([4, 81], run=run_info(), setting="method.n")
