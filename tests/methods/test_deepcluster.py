"""DeepCluster: whitening, clusters that count equally, a new classifier each epoch."""

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.methods.deepcluster import DeepCluster
from ssl_zoo.methods.deepcluster.whitening import whiten
from tests.distributed import run_on_ranks
from tests.small import Epoch, batch, progress, small_method


def ready() -> DeepCluster:
    """A method before its first step."""
    torch.manual_seed(0)
    method = small_method("deepcluster", "method.n_clusters=6", "method.recluster_every=1 epoch")
    assert isinstance(method, DeepCluster)
    method.before_epoch(progress(), Epoch())
    return method


def features(n: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    mixed: Tensor = torch.randn(n, 6, generator=generator, dtype=torch.float64) @ mixing
    return mixed + 3


@pytest.mark.parametrize("max_dim", [2, 6, 256])
def test_whitened_dot_products_are_those_of_an_svd(max_dim: int) -> None:
    x = features()
    u = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)[0][:, :max_dim]
    u = u / u.norm(dim=1, keepdim=True)
    white = whiten(x, max_dim=max_dim)
    torch.testing.assert_close(white @ white.t(), u @ u.t())


def test_a_channel_that_never_fires_is_not_blown_up() -> None:
    x = torch.cat([features(), torch.zeros(200, 3, dtype=torch.float64)], dim=1)
    white, plain = whiten(x, max_dim=256), whiten(features(), max_dim=256)
    torch.testing.assert_close(white @ white.t(), plain @ plain.t())


def test_equal_features_stay_finite() -> None:
    assert torch.isfinite(whiten(torch.ones(10, 4), max_dim=3)).all()


def uneven_part() -> Tensor:
    x = features()
    cut = {1: [x], 2: [x[:30], x[30:]]}[distributed.world_size()]
    white: Tensor = whiten(cut[distributed.rank()], max_dim=3)
    return white


@pytest.mark.distributed
def test_ranks_whiten_together() -> None:
    white, whole = torch.cat(run_on_ranks(uneven_part, 2)), uneven_part()
    torch.testing.assert_close(white @ white.t(), whole @ whole.t())


def test_loss_counts_all_clusters_equally() -> None:
    method, found = ready(), batch()
    clusters = method.targets.of(torch.arange(80))[0]
    sizes = torch.bincount(clusters, minlength=6)
    with torch.no_grad():
        rows = torch.cat([method.backbone(group.flatten(0, 1)) for group in found.views])
        log_p = method.classifier(rows).double().log_softmax(dim=1)
    terms = []
    for row in range(len(rows)):
        cluster = int(clusters[row % 8])
        weight = 80 / (int((sizes > 0).sum()) * int(sizes[cluster]))
        terms.append(-weight * log_p[row, cluster])
    loss = method(found, progress()).loss.detach()
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


def test_each_epoch_has_a_new_classifier_that_no_rank_state_changes() -> None:
    method = ready()
    first = method.classifier.weight.detach().clone()
    torch.manual_seed(5)
    method.before_epoch(progress(10), Epoch())
    second = method.classifier.weight.detach().clone()
    assert not torch.allclose(first, second)
    assert float(second.std()) == pytest.approx(0.01, rel=0.3)
    torch.manual_seed(6)
    method.before_epoch(progress(10), Epoch())
    assert torch.equal(method.classifier.weight, second)


def test_the_classifier_has_no_momentum_that_outlives_it() -> None:
    method = ready()
    optimizer = torch.optim.SGD(list(method.param_groups()), lr=0.1, momentum=0.9)
    method(batch(), progress()).loss.backward()
    optimizer.step()
    kept = [p for p, state in optimizer.state.items() if state.get("momentum_buffer") is not None]
    assert kept
    assert not {id(p) for p in kept} & {id(p) for p in method.classifier.parameters()}


def test_clustering_changes_neither_mode_nor_statistics() -> None:
    method = ready()
    before = {key: value.clone() for key, value in method.named_buffers()}
    method.before_epoch(progress(10), Epoch())
    assert all(module.training for module in method.modules())
    assert all(torch.equal(value, before[key]) for key, value in method.named_buffers())


def test_features_are_held_for_the_clustering_alone() -> None:
    assert ready().bank.is_empty
