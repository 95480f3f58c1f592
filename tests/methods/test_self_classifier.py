"""Self-Classifier: its loss from the formula, written out; targets with gradient; queue; ranks."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.self_classifier import SelfClassifier, self_classification
from ssl_zoo.runs.config import run_config
from tests.distributed import run_on_ranks
from tests.small import batch, progress, run_info, small_method


def some_scores(v: int = 4, b: int = 6, c: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scores: Tensor = (2 * torch.rand(v, b, c, generator=generator) - 1).double()
    return scores


def loss_of(scores: Tensor, n_global: int = 2) -> Tensor:
    loss: Tensor = self_classification(scores, n_global, temperature=0.1, target_temperature=0.05)
    return loss


def slow_loss(scores: Tensor, n_global: int = 2) -> Tensor:
    """Normalised one after the other, as in src/loss.py, over pairs of views with a global one."""
    _, n, c = scores.shape
    pairs = []
    for one, target in enumerate(scores):
        for other, prediction in enumerate(scores):
            if one == other or min(one, other) >= n_global:
                continue
            p = (prediction / 0.1).exp()
            p = p / p.sum(dim=1, keepdim=True)
            p = p / p.sum(dim=0, keepdim=True)
            q = (target / 0.05).exp()
            q = q / q.sum(dim=0, keepdim=True)
            q = q / q.sum(dim=1, keepdim=True)
            pairs.append(-(q * (n / c * p).log()).sum(dim=1).mean())
    return torch.stack(pairs).mean()


@pytest.mark.parametrize("n_global", [1, 2, 4])
def test_loss_and_gradient_equal_a_slow_reference(n_global: int) -> None:
    scores = some_scores().requires_grad_()
    loss, expected = loss_of(scores, n_global), slow_loss(scores, n_global)
    torch.testing.assert_close(loss, expected)
    (gradient,), (wanted,) = (torch.autograd.grad(x, scores) for x in (loss, expected))
    torch.testing.assert_close(gradient, wanted)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(loss_of, some_scores(3, 4, 3).requires_grad_())


def test_targets_have_a_gradient() -> None:
    scores = some_scores(2).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(scores), scores)
    p = (scores / 0.1).log_softmax(dim=2)
    p = p - p.logsumexp(dim=1, keepdim=True) + math.log(6 / 5)
    q = (scores.detach() / 0.05).softmax(dim=1)
    q = q / q.sum(dim=2, keepdim=True)
    stopped = -((q[1] * p[0]).sum(1).mean() + (q[0] * p[1]).sum(1).mean()) / 2
    torch.testing.assert_close(stopped, loss_of(scores))
    assert (torch.autograd.grad(stopped, scores)[0] - gradient).abs().max() > 1e-3


@pytest.mark.parametrize("favourite", [0.0, 1.0], ids=["all_classes", "one_class"])
def test_images_that_do_not_differ_cost_ln_c(favourite: float) -> None:
    scores = torch.zeros(2, 6, 5).double()
    scores[..., 0] = favourite
    assert float(loss_of(scores)) == pytest.approx(math.log(5))


def test_images_that_share_out_the_classes_with_certainty_cost_nothing() -> None:
    scores = 3 * torch.eye(4).double().repeat(2, 2, 1)  # (2, 8, 4)
    assert float(loss_of(scores)) == pytest.approx(0, abs=1e-9)


def test_scores_too_large_for_plain_exponentials_stay_finite() -> None:
    scores = (200 * some_scores(2).float()).requires_grad_()
    loss = loss_of(scores)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    scores = some_scores().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(scores)
    torch.testing.assert_close(loss.double(), slow_loss(scores.double()), rtol=1e-5, atol=0)


def test_views_without_a_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="n_global of 1 and 1 views do not give a pair"):
        loss_of(some_scores(1), 1)


def _gradient_on_a_rank(scores: Tensor) -> tuple[Tensor, Tensor]:
    mine = scores.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    loss = loss_of(mine)
    return loss.detach(), torch.autograd.grad(loss, mine)[0]


@pytest.mark.distributed
def test_two_ranks_have_the_loss_and_gradient_of_the_whole_batch() -> None:
    loss, gradient = _gradient_on_a_rank(some_scores())
    ranks = run_on_ranks(_gradient_on_a_rank, 2, some_scores())
    torch.testing.assert_close(torch.stack([rank[0] for rank in ranks]).mean(), loss)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)


def build(*overrides: str) -> SelfClassifier:
    torch.manual_seed(0)
    sizes = ("global_batch_size=8", "method.n_prototypes=[4, 7]")
    method = small_method("self_classifier", *sizes, *overrides)
    assert isinstance(method, SelfClassifier)
    return method


def embedded(method: SelfClassifier, views: list[Tensor]) -> Tensor:
    """Returns embeddings `(V, B, d)` in float64."""
    with torch.no_grad():
        z = method.head(torch.cat([method.backbone(group.flatten(0, 1)) for group in views]))
    return normalize(z.double(), dim=1).view(-1, views[0].shape[1], z.shape[1])


def expected_of(method: SelfClassifier, z: Tensor) -> float:
    sets = [weight.detach().double() for weight in method.prototypes.weights]
    config = method.config
    losses = [
        self_classification(
            z @ weight.T,
            2,
            temperature=config.temperature,
            target_temperature=config.target_temperature,
        )
        for weight in sets
    ]
    return float(torch.stack(losses).mean())


def test_the_loss_is_the_mean_over_sets_of_prototypes() -> None:
    method, views = build(), batch().views
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    assert float(loss.detach()) == pytest.approx(
        expected_of(method, embedded(method, views)), abs=1e-5
    )


def test_the_first_view_is_replaced_by_its_neighbour_among_other_images() -> None:
    method = build("method.queue_length=16")
    assert method.queue is not None
    first = batch()
    method(first, progress())
    method.commit(progress())
    again = Batch(
        [view.clone() for view in first.views], first.index
    )  # each has itself in the queue
    z, rows = embedded(method, again.views), method.queue.embeddings(torch.zeros(1)).double()
    similarity = z[0] @ rows.T
    similarity[torch.arange(8), torch.arange(8)] = -2
    neighbors = rows[similarity.argmax(dim=1)]
    loss = method(again, progress()).loss
    expected = expected_of(method, torch.cat([neighbors[None], z[1:]]))
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)


def test_the_queue_takes_the_first_view_itself() -> None:
    method, found = build("method.queue_length=16"), batch()
    assert method.queue is not None
    method(found, progress())
    method.commit(progress())
    rows = method.queue.embeddings(torch.zeros(1))[:8].double()
    torch.testing.assert_close(rows, embedded(method, found.views)[0], rtol=1e-4, atol=1e-5)


def test_prototypes_have_length_one_before_each_step() -> None:
    method = build()
    with torch.no_grad():
        for weight in method.prototypes.weights:
            weight.mul_(3)
    method.before_step(progress())
    for weight in method.prototypes.weights:
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))


def test_a_plan_keeps_the_ratios_of_the_sets() -> None:
    run = run_info(400)  # of 4000 images
    found = SelfClassifier.fitted(SelfClassifier.Config(), run)
    assert found["n_prototypes"][0] == [40, 80, 160, 320]


def test_a_queue_of_parts_of_batches_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 100 .* use 64 or 128"):
        run_config("self_classifier", overrides=["method.queue_length=100"])


def test_a_queue_longer_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="queue_length of 88 is above the 80 training images"):
        build("method.queue_length=88")
