"""InfoNCE against loops over MoCo's equation 1, against closed forms, and over ranks."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.losses.info_nce import InfoNCELoss, InfoNCESettings, info_nce, positive_cosine
from tests.distributed import run_on_ranks

T = 0.2


def reference(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor | None,
    temperature: float,
    same_views: bool = True,
) -> Tensor:
    """-log exp(q . k+ / T) / sum over k+ and the negatives, one query and one key at a time."""
    q, k = (normalize(views.double(), dim=2) for views in (queries, keys))
    n_images = q.shape[1]
    terms = []
    for v in range(len(q)):
        for g in range(len(k)):
            if same_views and v == g:
                continue
            for b in range(n_images):
                positive = q[v, b] @ k[g, b]
                if negatives is None:
                    others = [q[v, b] @ k[g, j] for j in range(n_images) if j != b]
                else:
                    others = [q[v, b] @ row.double() for row in negatives]
                logits = torch.stack([positive, *others]) / temperature
                terms.append(-(logits[0].exp() / logits.exp().sum()).log())
    return torch.stack(terms).mean()


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def negatives(n: int = 7) -> Tensor:
    return normalize(some(n, 4, seed=2), dim=1)


def test_the_module_takes_its_temperature_from_its_settings() -> None:
    loss = InfoNCELoss(InfoNCESettings(temperature=0.5))
    q, k = some(2, 5, 4), some(2, 5, 4, seed=1)
    expected = info_nce(q, k, negatives(), temperature=0.5, same_views=False)
    assert torch.equal(loss(q, k, negatives(), same_views=False), expected)


@pytest.mark.parametrize("queue", [None, negatives()], ids=["batch", "queue"])
@pytest.mark.parametrize(
    ("n_queries", "n_keys", "same_views"),
    [(2, 2, True), (5, 2, True), (2, 5, True), (1, 1, False), (3, 1, False), (3, 2, False)],
)
def test_value_and_gradients_equal_a_slow_reference(
    queue: Tensor | None, n_queries: int, n_keys: int, same_views: bool
) -> None:
    q, k = some(n_queries, 6, 4), some(n_keys, 6, 4, seed=1)
    own, exact = [
        [x.to(dtype).requires_grad_() for x in (q, k)] for dtype in (torch.float32, torch.float64)
    ]
    loss = info_nce(own[0], own[1], queue, temperature=T, same_views=same_views)
    expected = reference(exact[0], exact[1], queue, T, same_views)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    for gradient, wanted in zip(
        torch.autograd.grad(loss, own), torch.autograd.grad(expected, exact), strict=True
    ):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("queue", [None, negatives().double()], ids=["batch", "queue"])
def test_gradcheck(queue: Tensor | None) -> None:
    q = some(3, 3, 4).double().requires_grad_()
    k = some(2, 3, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: info_nce(q, k, queue, temperature=T), (q, k))


@pytest.mark.parametrize(("n_images", "queue"), [(6, None), (1, negatives())])
def test_equal_keys_cost_the_logarithm_of_their_number(
    n_images: int, queue: Tensor | None
) -> None:
    same = some(1, 1, 4).expand(2, n_images, 4)
    if queue is not None:
        queue = normalize(same[0, :1], dim=1).expand(len(queue), 4)
    loss = info_nce(same, same, queue, temperature=T)
    candidates = n_images if queue is None else 1 + len(queue)
    assert float(loss) == pytest.approx(math.log(candidates), rel=1e-6)


def test_orthogonal_keys_have_a_closed_form() -> None:
    """The positive has cosine 1, each of the 3 others 0."""
    views = torch.eye(4).expand(2, 4, 4)
    expected = math.log(1 + 3 * math.exp(-1 / T))
    assert float(info_nce(views, views, temperature=T)) == pytest.approx(expected, rel=1e-5)


def test_with_a_queue_other_images_of_the_batch_do_not_matter() -> None:
    q, k = some(2, 6, 4), some(2, 6, 4, seed=1)
    each = [info_nce(q[:, [b]], k[:, [b]], negatives(), temperature=T) for b in range(q.shape[1])]
    loss = info_nce(q, k, negatives(), temperature=T)
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_one_image_has_nothing_to_be_told_from() -> None:
    assert info_nce(some(3, 1, 4), some(2, 1, 4), temperature=T).item() == 0


def test_length_of_embeddings_does_not_matter() -> None:
    q, k = some(3, 6, 4), some(2, 6, 4, seed=1)
    loss = info_nce(7 * q, k / 3, negatives(), temperature=T)
    torch.testing.assert_close(loss, info_nce(q, k, negatives(), temperature=T))


@pytest.mark.parametrize("queue", [None, negatives()], ids=["batch", "queue"])
@pytest.mark.parametrize(
    "views",
    [some(3, 1, 4).repeat(1, 5, 1), torch.zeros(3, 5, 4), 1e4 * some(3, 5, 4)],
    ids=["duplicates", "zeros", "large"],
)
@pytest.mark.parametrize("temperature", [0.01, 10])
def test_degenerate_batches_stay_finite(
    views: Tensor, temperature: float, queue: Tensor | None
) -> None:
    views = views.clone().requires_grad_()
    loss = info_nce(views, views, queue, temperature=temperature)
    (gradient,) = torch.autograd.grad(loss, views)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("queue", [None, negatives()], ids=["batch", "queue"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_under_autocast(
    dtype: torch.dtype, queue: Tensor | None
) -> None:
    q, k = some(2, 6, 4).to(dtype), some(2, 6, 4, seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(q, k, queue, temperature=T)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), reference(q, k, queue, T), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (0, 1), (2, 0)])
def test_views_without_pairs_are_refused(n_queries: int, n_keys: int) -> None:
    with pytest.raises(ValueError, match=f"{n_queries} query views and {n_keys} key views"):
        info_nce(some(n_queries, 3, 4), some(n_keys, 3, 4), temperature=T)


@pytest.mark.parametrize("keys", [some(2, 5, 4), some(2, 6, 3), some(6, 4)])
def test_keys_of_other_images_are_refused(keys: Tensor) -> None:
    with pytest.raises(ValueError, match="are not \\(views, B, D\\) of the same images"):
        info_nce(some(2, 6, 4), keys, temperature=T)


@pytest.mark.parametrize("same_views", [True, False])
def test_positive_cosine_is_the_mean_over_pairs(same_views: bool) -> None:
    q, k = some(3, 6, 4), some(2, 6, 4, seed=1)
    cosines = [
        torch.cosine_similarity(q[v], k[g], dim=1).mean()
        for v in range(3)
        for g in range(2)
        if not (same_views and v == g)
    ]
    found = positive_cosine(q, k, same_views=same_views)
    torch.testing.assert_close(found, torch.stack(cosines).mean())


def _gradients_on_a_rank(q: Tensor, k: Tensor, queue: Tensor | None) -> tuple[Tensor, ...]:
    chunks = [x.chunk(distributed.world_size(), dim=1)[distributed.rank()] for x in (q, k)]
    own = [chunk.contiguous().requires_grad_() for chunk in chunks]
    loss = info_nce(own[0], own[1], queue, temperature=T)
    return loss.detach(), *torch.autograd.grad(loss, own)


@pytest.mark.distributed
@pytest.mark.parametrize("queue", [None, negatives()], ids=["batch", "queue"])
def test_two_ranks_equal_one_process_with_the_whole_batch(queue: Tensor | None) -> None:
    q, k = some(4, 6, 4), some(2, 6, 4, seed=1)
    loss, *gradients = _gradients_on_a_rank(q, k, queue)
    ranks = run_on_ranks(_gradients_on_a_rank, 2, q, k, queue)
    mean_loss = torch.stack([rank[0] for rank in ranks]).mean()
    torch.testing.assert_close(mean_loss, loss, rtol=2e-6, atol=0)
    for number, gradient in enumerate(gradients, start=1):
        together = torch.cat([rank[number] for rank in ranks], dim=1) / 2  # as DDP averages
        torch.testing.assert_close(together, gradient, rtol=1e-5, atol=1e-7)
