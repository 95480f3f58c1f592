"""NNCLR: its loss from its own embeddings, neighbours, and the support set."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.nnclr import NNCLR
from ssl_zoo.runs.config import run_config
from tests.small import COUNTS, batch, progress, run_info, small_method

WITHOUT_LOCAL = ((32, 2),)
SEVERAL = ((32, 3), (16, 2))


def nnclr(*overrides: str, batch_size: int = 8) -> NNCLR:
    torch.manual_seed(0)
    sizes = ("global_batch_size=8", "method.queue_length=16")
    method = small_method("nnclr", *sizes, *overrides, run=run_info(batch_size))
    assert isinstance(method, NNCLR)
    return method


def rows(method: NNCLR) -> Tensor:
    embeddings: Tensor = method.queue.embeddings(torch.zeros(1))
    return embeddings


def parts(method: NNCLR, views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns embeddings z and predictions p `(V, B, d)` in float64, normalised."""
    n_images = views[0].shape[1]
    with torch.no_grad():
        projections = method.head(
            torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        )
        p = method.predictor(projections)
    z, p = (normalize(x.double(), dim=1).view(-1, n_images, x.shape[1]) for x in (projections, p))
    return z, p


def one_direction(z: Tensor, p: Tensor, support: Tensor, temperature: float) -> Tensor:
    """The paper's equation 4 for the embeddings of one view and the predictions of another."""
    terms = []
    for b in range(len(z)):
        neighbor = min(support, key=lambda row: float((row - z[b]).norm()))
        logits = torch.stack([neighbor @ other for other in p]) / temperature
        terms.append(-(logits[b].exp() / logits.exp().sum()).log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("counts", [WITHOUT_LOCAL, COUNTS, SEVERAL])
def test_loss_equals_a_slow_reference(counts: tuple[tuple[int, int], ...]) -> None:
    method = nnclr()
    views = batch(counts=counts).views
    z, p = parts(method, views)
    support, n_global = rows(method).double(), counts[0][1]
    terms = [
        one_direction(z[g], p[v], support, method.config.temperature)
        for g in range(n_global)
        for v in range(len(p))
        if v != g
    ]
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


def test_a_batch_meets_itself_in_the_queue_only_after_its_step() -> None:
    method = nnclr()
    before = rows(method).clone()
    method(batch(), progress())
    assert torch.equal(rows(method), before)
    method.commit(progress())
    assert torch.equal(rows(method)[8:], before[8:])
    assert not torch.isclose(rows(method)[:8], before[:8]).all(dim=1).any()


def test_the_queue_takes_the_embeddings_of_the_first_view_not_predictions() -> None:
    method = nnclr()
    views = batch(counts=SEVERAL).views
    z, _ = parts(method, views)
    method(Batch(views, torch.arange(8)), progress())
    method.commit(progress())
    torch.testing.assert_close(rows(method)[:8].double(), z[0], rtol=1e-4, atol=1e-5)


def test_after_its_step_an_image_is_its_own_neighbour() -> None:
    method = nnclr("method.queue_length=8")
    views = batch(counts=WITHOUT_LOCAL).views
    for step in range(2):
        metrics = method(Batch(views, torch.arange(8)), progress(step)).metrics()
        method.commit(progress(step))
    assert metrics["distinct_neighbors"] == 1


def test_queued_embeddings_have_no_gradient() -> None:
    method = nnclr()
    method(batch(), progress())
    method.commit(progress())
    assert not rows(method).requires_grad


def test_accumulated_batches_are_queued_together() -> None:
    method = nnclr(batch_size=16)
    before = rows(method).clone()
    for _ in range(2):
        method(batch(), progress())
    method.commit(progress())
    assert not torch.isclose(rows(method), before).all(dim=1).any()


def test_evaluation_queues_nothing() -> None:
    method = nnclr().eval()
    before = rows(method).clone()
    method(batch(), progress())
    method.commit(progress())
    assert torch.equal(rows(method), before)


def test_the_queue_survives_a_checkpoint() -> None:
    method, other = nnclr(), nnclr()
    method(batch(), progress())
    method.commit(progress())
    other.load_rank_state([method.rank_state(), {}])
    for each in (method, other):
        each.queue.push(torch.zeros(8, 64))
    assert torch.equal(rows(method), rows(other))


def test_a_single_neighbour_for_all_images_shows_in_the_metrics() -> None:
    method = nnclr()
    method.queue.push(torch.ones(16, 64) / 8)
    metrics = method(batch(), progress()).metrics()
    assert metrics["distinct_neighbors"] == 1 / 8
    assert metrics["loss_over_chance"] >= 1


def test_defaults_are_those_of_the_paper() -> None:
    config: Any = NNCLR.Config()
    assert (config.temperature, config.queue_length) == (0.1, 98304)
    assert config.head.hidden_dims == [2048, 2048]
    assert config.predictor.hidden_dims == [4096]


def test_a_queue_of_parts_of_batches_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 100 .* use 64 or 128"):
        run_config("nnclr", overrides=["method.queue_length=100"])


def test_a_queue_longer_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 88 is above the 80 training images"):
        nnclr("method.queue_length=88")


def test_a_predictor_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="32 .* set method.predictor.output_dim=64"):
        nnclr("method.predictor.output_dim=32")
