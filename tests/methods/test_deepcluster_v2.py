"""DeepCluster-v2: its loss from its own embeddings, the bank, and what clusters are made of."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.deepcluster_v2 import DeepClusterV2
from tests.small import Epoch, batch, progress, small_method

N_PROTOTYPES = [5, 6, 7]


def ready(*overrides: str) -> DeepClusterV2:
    """A method before its first step."""
    torch.manual_seed(0)
    method = small_method("deepcluster_v2", f"method.n_prototypes={N_PROTOTYPES}", *overrides)
    assert isinstance(method, DeepClusterV2)
    method.before_epoch(progress(), Epoch())
    return method


def embeddings(method: DeepClusterV2, views: list[Tensor]) -> Tensor:
    """All views' `(V, B, d)`, with the batch statistics of training, in float64."""
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        z = normalize(method.head(features).double(), dim=1)
    return z.view(-1, views[0].shape[1], z.shape[1])


def test_loss_equals_a_slow_reference() -> None:
    method, found = ready(), batch(counts=((32, 2), (16, 3)))
    z, targets = embeddings(method, found.views), method.clusters.targets.of(found.index)
    terms = []
    for head in range(3):
        c = method.prototypes.sets[head].get_parameter("weight").double()
        for view in range(5):
            for image in range(8):
                logits = c @ z[view, image] / method.config.temperature
                terms.append(logits.logsumexp(0) - logits[targets[head, image]])
    loss = method(found, progress()).loss.detach()
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


def test_the_first_epoch_has_targets_for_all_its_images() -> None:
    targets = ready().clusters.targets.of(torch.arange(80))
    assert targets.shape == (3, 80)
    assert (targets >= 0).all()


def test_prototypes_are_centroids_of_the_bank() -> None:
    method = ready()
    for head, view in ((0, 0), (1, 1), (2, 0)):  # heads 0 and 2 cluster view 0
        rows, targets = (
            method.clusters.bank.embeddings(view),
            method.clusters.targets.of(method.clusters.bank.index)[head],
        )
        c = method.prototypes.sets[head].get_parameter("weight")
        assert torch.equal(targets, (rows @ c.t()).argmax(dim=1))
        assert c.norm(dim=1).tolist() == pytest.approx([1] * N_PROTOTYPES[head], abs=1e-5)


def test_prototypes_are_not_trained() -> None:
    method = ready()
    method(batch(), progress()).loss.backward()
    assert not any(p.requires_grad for p in method.prototypes.parameters())
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    assert not trained & {id(p) for p in method.prototypes.parameters()}


def test_the_bank_takes_the_embeddings_of_training_when_the_step_is_done() -> None:
    method, found = ready(), batch()
    before = method.clusters.bank.embeddings(1).clone()
    z = embeddings(method, found.views)
    method(found, progress(3))
    assert torch.equal(method.clusters.bank.embeddings(1), before)
    method.commit(progress(3))
    rows = method.clusters.bank.embeddings(1)
    torch.testing.assert_close(rows[24:32].double(), z[1], rtol=0, atol=1e-5)
    assert torch.equal(rows[:24], before[:24])
    assert torch.equal(rows[32:], before[32:])


def test_small_crops_make_no_rows() -> None:
    assert ready().clusters.bank.n_views == 2


def test_a_later_epoch_is_clustered_without_a_pass_over_it() -> None:
    class NoData(Epoch):
        def views(self) -> None:  # type: ignore[override]
            raise AssertionError("the data was read")

    method = ready()
    method.before_epoch(progress(10), NoData())
    assert (method.clusters.targets.of(torch.arange(80)) >= 0).all()


def test_images_without_a_cluster_have_no_loss() -> None:
    method, found = ready(), batch()
    for head in range(3):
        method.clusters.targets.assign(head, torch.tensor([0]), torch.tensor([1]))
    views = [view[:, 1:] for view in found.views]
    assert float(method(Batch(views, found.index[1:]), progress()).loss.detach()) == 0


def test_more_prototypes_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"n_prototypes of 81 is above the 80 images of an epoch"):
        small_method("deepcluster_v2", "method.n_prototypes=[81]")
