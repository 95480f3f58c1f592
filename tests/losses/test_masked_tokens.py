"""The loss of hidden patches: patch by patch, and what it refuses."""

import math

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.losses.masked_tokens import (
    checked_global_masks,
    hidden_code_loss,
    masked_cross_entropy,
    places_of,
    prediction_metrics,
)


def test_value_and_gradient_equal_a_slow_reference() -> None:
    torch.manual_seed(0)
    hidden = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    rows = hidden.flatten().nonzero()[:, 0]
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(4, 6, dtype=torch.float64).softmax(dim=1)
    views = []
    place = 0
    for view in hidden:
        terms = []
        for is_hidden in view:
            if is_hidden:
                exponentials = (scores[place] / 0.2).exp()
                terms.append(-(targets[place] * (exponentials / exponentials.sum()).log()).sum())
                place += 1
        views.append(torch.stack(terms).mean() if terms else torch.zeros((), dtype=torch.float64))
    expected = torch.stack(views).mean()
    found = masked_cross_entropy(scores, targets, hidden, rows, temperature=0.2)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    (gradient,), (wanted,) = (torch.autograd.grad(value, scores) for value in (found, expected))
    torch.testing.assert_close(gradient, wanted)


def test_uniform_predictions_cost_ln_k_and_nothing_hidden_costs_nothing() -> None:
    hidden = torch.ones(2, 3, dtype=torch.bool)
    targets = torch.rand(6, 5).softmax(dim=1)
    found = masked_cross_entropy(
        torch.ones(6, 5), targets, hidden, torch.arange(6), temperature=0.1
    )
    assert float(found) == pytest.approx(math.log(5), abs=1e-6)
    none = torch.zeros(0, 5, requires_grad=True)
    rows = torch.zeros(0, dtype=torch.int64)
    empty = masked_cross_entropy(none, torch.zeros(0, 5), ~hidden, rows, temperature=0.1)
    assert float(empty.detach()) == 0
    empty.backward()  # type: ignore[no-untyped-call]


def test_the_loss_is_in_float32_under_autocast() -> None:
    hidden = torch.ones(1, 2, dtype=torch.bool)
    scores = torch.randn(2, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = masked_cross_entropy(
            scores, torch.full((2, 5), 0.2), hidden, torch.arange(2), temperature=0.1
        )
    assert found.dtype == torch.float32


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, K\) for 3 rows"):
        masked_cross_entropy(
            torch.ones(2, 5),
            torch.ones(2, 5),
            torch.ones(1, 3).bool(),
            torch.arange(3),
            temperature=1,
        )


def test_places_are_those_of_nonzero() -> None:
    hidden = torch.rand(5, 7) < 0.4
    expected = hidden.flatten().nonzero()[:, 0]
    assert torch.equal(places_of(hidden, len(expected)), expected)
    assert len(places_of(torch.zeros(2, 3, dtype=torch.bool), 0)) == 0


def test_masks_are_put_in_the_order_of_views() -> None:
    masks = torch.rand(3, 2, 4) < 0.5
    found = checked_global_masks(masks, 2, 4)
    assert torch.equal(found[1], masks[1, 0])
    assert torch.equal(found[3 + 1], masks[1, 1])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (None, "masks all 2 global crops, but the batch has no masks; set 'augmentation.mask="),
        (torch.zeros(3, 1, 4, dtype=torch.bool), "but the batch has masks of 1; set"),
        (torch.zeros(3, 2, 9, dtype=torch.bool), "masks have 9 patches.* the backbone has 4"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: torch.Tensor | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked_global_masks(masks, 2, 4)


def test_the_loss_of_codes_is_one_mean_over_all_hidden_patches() -> None:
    drawn = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)).double()
    scores = drawn.clone().requires_grad_()
    codes = torch.tensor([0, 2, 1, 1, 0])
    losses = [-float(row.log_softmax(dim=0)[code]) for row, code in zip(drawn, codes, strict=True)]
    assert float(hidden_code_loss(drawn, codes)) == pytest.approx(sum(losses) / 5, rel=1e-12)
    assert torch.autograd.gradcheck(lambda given: hidden_code_loss(given, codes), (scores,))


def test_the_loss_of_no_hidden_patches_is_zero() -> None:
    scores = torch.zeros(0, 3, requires_grad=True)
    assert hidden_code_loss(scores, torch.zeros(0, dtype=torch.int64)).item() == 0


def test_a_prediction_from_frequencies_explains_nothing() -> None:
    codes = torch.tensor([0, 0, 0, 1])
    frequencies = torch.tensor([0.75, 0.25]).log().expand(4, 2)
    found = prediction_metrics(frequencies, codes)
    assert found["explained_entropy"] == pytest.approx(0, abs=1e-6)
    assert found["token_accuracy"] == found["most_frequent"] == pytest.approx(0.75)
    assert found["target_perplexity"] == pytest.approx(4 / 3**0.75)


def test_a_certain_prediction_explains_all() -> None:
    codes = torch.tensor([0, 1, 2])
    found = prediction_metrics(100 * torch.eye(3), codes)
    assert (found["explained_entropy"], found["token_accuracy"]) == pytest.approx((1, 1))
