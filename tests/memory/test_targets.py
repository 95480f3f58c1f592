"""Cluster targets of a whole data set: gathered over ranks, weighed, saved in shares, summed up."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.memory import Targets, cluster_alarms
from ssl_zoo.method import RunInfo
from tests.distributed import run_on_ranks

RUN = RunInfo(n_samples=10, global_batch_size=4, steps_per_epoch=2, total_steps=4)


def targets(*clusterings: list[int], n_clusters: int = 4) -> Targets:
    """Targets of images 0, 1, ... of each clustering."""
    made = Targets(RUN, [n_clusters] * len(clusterings))
    for head, clusters in enumerate(clusterings):
        made.assign(head, torch.arange(len(clusters)), torch.tensor(clusters))
    return made


def test_images_without_a_cluster_are_unknown() -> None:
    assert targets([1, 2], [3]).of(torch.tensor([0, 1, 9])).tolist() == [
        [1, 2, -100],
        [3, -100, -100],
    ]


def test_a_new_clustering_forgets_the_last() -> None:
    made = targets([1, 2, 3])
    made.assign(0, torch.tensor([5]), torch.tensor([0]))
    assert made.of(torch.tensor([0, 5])).tolist() == [[-100, 0]]


def assigned_on_ranks() -> Tensor:
    made = Targets(RUN, [4])
    index = torch.arange(8).view(2, 4)[distributed.rank()]
    made.assign(0, index, index % 4)
    return made.of(torch.arange(10))


@pytest.mark.distributed
def test_ranks_share_their_clusters() -> None:
    for found in run_on_ranks(assigned_on_ranks, 2):
        assert found.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, -100, -100]]


def test_weights_let_all_clusters_count_equally() -> None:
    weights = targets([0, 0, 0, 2, 2, 3]).weights(0)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 0, 1, 2]))
    assert float(weights[torch.tensor([0, 0, 0, 2, 2, 3])].mean()) == pytest.approx(1)


def facts(made: Targets) -> dict[str, float]:
    return made.metrics(torch.zeros(len(made.of(torch.arange(1)))))


def test_sizes_show_in_the_metrics() -> None:
    found = facts(targets([0, 0, 1, 1], [0, 0, 0, 0]))
    assert found["active_clusters"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["cluster_entropy"] == pytest.approx(math.log(2) / math.log(4) / 2)


def test_the_loss_of_uniform_predictions_is_one() -> None:
    made = Targets(RUN, [4, 9])
    assert made.metrics(torch.tensor([4.0, 9.0]).log())["loss_over_ln_k"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ([0, 0, 1, 1], [3, 3, 0, 0], 0.0),  # another order of clusters
        ([0, 0, 1, 1], [0, 0, 0, 1], 0.25),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.5),
        ([0, 0], [1, 1, 2, 2], 0.0),  # images that were unknown do not count
        ([], [1, 1], 1.0),
    ],
)
def test_changes_are_counted_whatever_clusters_are_called(
    before: list[int], after: list[int], changed: float
) -> None:
    made = targets(before)
    made.assign(0, torch.arange(len(after)), torch.tensor(after))
    assert facts(made)["changed_targets"] == pytest.approx(changed)


def saved(n_ranks: int) -> list[dict[str, Tensor]]:
    """The states of ranks, each its share of the images."""
    state = targets([3, 1, 2, 0, 3], [1, 1, 0, 2]).state()
    return [{**state, "clusters": state["clusters"][:, rank::n_ranks]} for rank in range(n_ranks)]


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_shares_of_any_number_of_ranks_make_the_whole(n_ranks: int) -> None:
    loaded = Targets(RUN, [4, 4])
    loaded.load(saved(n_ranks))
    made = targets([3, 1, 2, 0, 3], [1, 1, 0, 2])
    assert torch.equal(loaded.of(torch.arange(10)), made.of(torch.arange(10)))
    assert facts(loaded) == facts(made)


def test_targets_of_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="2 clusterings of 10 images, this run has 2 of 11"):
        Targets(replace(RUN, n_samples=11), [4, 4]).load(saved(2))


def test_a_collapse_rings_alarms() -> None:
    run = replace(RUN, n_samples=100)
    made = Targets(run, [50])
    made.assign(0, torch.arange(100), torch.zeros(100, dtype=torch.long))
    collapsed = facts(made)
    ringing = {a.metric for a in cluster_alarms("x") if collapsed[a.metric] < a.below}
    assert ringing == {"active_clusters", "cluster_entropy"}
