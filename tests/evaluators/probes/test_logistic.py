from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression as Peer

from ssl_zoo.evaluators.probes import design as module
from ssl_zoo.evaluators.probes.design import Design, Scaling
from ssl_zoo.evaluators.probes.logistic import Classifier, LogisticRegression

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def data(
    n: int = 120, d: int = 6, k: int = 3, *, seed: int = 0, offset: float = 3.0
) -> tuple[Floats, Labels]:
    """Features of uneven spread and mean whose classes overlap."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    centres = generator.standard_normal((k, d))
    values = (centres[labels] + generator.standard_normal((n, d))) * np.arange(1, d + 1) + offset
    return values.astype(np.float32), labels


def fit(
    values: Floats, labels: Labels, penalty: float, normalise: Scaling = "standardise"
) -> Classifier:
    regression = LogisticRegression(
        Design(values, normalise=normalise), labels, n_classes=int(labels.max()) + 1
    )
    return regression.fit(penalty, tolerance=1e-6, max_iterations=1000)


def prepared(values: Floats, normalise: Scaling) -> NDArray[np.float64]:
    exact = values.astype(np.float64)
    if normalise == "standardise":
        exact = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    else:
        exact *= np.sqrt(exact.shape[1]) / np.linalg.norm(exact, axis=1, keepdims=True)
    return exact


def probabilities(classifier: Classifier, values: Floats) -> NDArray[Any]:
    scores = torch.cat([block for _, block in classifier.scores(values)])
    return scores.softmax(dim=1).numpy()


@pytest.mark.parametrize("normalise", ["standardise", "l2"])
@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_it_agrees_with_scikit_learn(penalty: float, normalise: Scaling) -> None:
    values, labels = data()
    peer = Peer(C=1 / (penalty * len(values)), tol=1e-10, max_iter=100_000)
    exact = prepared(values, normalise)
    peer.fit(exact, labels)
    ours = fit(values, labels, penalty, normalise)
    assert ours.solution.converged
    np.testing.assert_allclose(ours.weights.numpy(), peer.coef_, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(
        probabilities(ours, values), peer.predict_proba(exact), atol=1e-4, rtol=0
    )


def test_two_classes_are_two_rows_of_weights() -> None:
    """scikit-learn has one row then, the difference, with half the penalty."""
    values, labels = data(k=2)
    peer = Peer(C=2 / (1e-2 * len(values)), tol=1e-10, max_iter=100_000)
    exact = prepared(values, "standardise")
    peer.fit(exact, labels)
    ours = fit(values, labels, 1e-2)
    assert ours.weights.shape == (2, 6)
    np.testing.assert_allclose(
        probabilities(ours, values), peer.predict_proba(exact), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("n", "d"), [(20, 50), (60, 50)])
def test_more_numbers_than_images_are_no_trouble(n: int, d: int) -> None:
    values, labels = data(n, d)
    exact = prepared(values, "standardise")
    peer = Peer(C=1 / (1e-2 * n), tol=1e-10, max_iter=100_000).fit(exact, labels)
    np.testing.assert_allclose(
        probabilities(fit(values, labels, 1e-2), values), peer.predict_proba(exact), atol=1e-4
    )


def test_few_features_span_few_directions_that_hold_all_that_varies() -> None:
    values, _ = data(20, 50)
    variances, axes = Design(values, normalise="standardise").spread()
    assert axes is not None
    assert axes.shape == (50, 19)  # their mean is 0
    np.testing.assert_allclose((axes.T @ axes).numpy(), np.eye(19), atol=1e-10)
    assert float(variances.sum()) == pytest.approx(50, rel=1e-6)


def test_axes_in_place_of_covariances_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = data()
    expected = fit(values, labels, 1e-2).weights
    monkeypatch.setattr(module, "DENSE", 2)
    torch.testing.assert_close(fit(values, labels, 1e-2).weights, expected, atol=1e-4, rtol=1e-4)


def test_blocks_that_are_not_held_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = data()
    expected = fit(values, labels, 1e-2).weights
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 7 * values.shape[1])
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    torch.testing.assert_close(fit(values, labels, 1e-2).weights, expected, atol=1e-5, rtol=1e-5)


def test_a_fit_after_another_is_the_same_as_alone() -> None:
    values, labels = data()
    regression = LogisticRegression(Design(values, normalise="l2"), labels, n_classes=3)
    regression.fit(1.0, tolerance=1e-6, max_iterations=1000)
    after = regression.fit(1e-3, tolerance=1e-6, max_iterations=1000)
    alone = fit(values, labels, 1e-3, "l2")
    torch.testing.assert_close(after.weights, alone.weights, atol=1e-4, rtol=1e-4)


def test_directions_of_the_covariance_spare_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    mixing = generator.standard_normal((30, 30)) * np.logspace(0, -3, 30)
    values = (generator.standard_normal((400, 30)) @ mixing.T).astype(np.float32)
    labels = generator.integers(0, 3, 400)
    few = fit(values, labels, 1e-4).solution
    monkeypatch.setattr(module, "DENSE", 2)
    many = fit(values, labels, 1e-4).solution
    assert few.converged
    assert few.iterations < 30
    assert many.iterations > 10 * few.iterations


def test_float32_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = data()
    expected = probabilities(fit(values, labels, 1e-2), values)
    monkeypatch.setattr(module, "EXACT_NUMBERS", 0)
    regression = LogisticRegression(Design(values, normalise="l2"), labels, n_classes=3)
    assert regression.fit(1e-2, tolerance=1e-4, max_iterations=1000).solution.converged
    found = probabilities(fit(values, labels, 1e-2), values)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_rows_are_a_part_of_the_images() -> None:
    values, labels = data()
    rows = np.arange(0, 120, 2)
    part = LogisticRegression(
        Design(values, rows, normalise="standardise"), labels[rows], n_classes=3
    ).fit(1e-2, tolerance=1e-6, max_iterations=1000)
    torch.testing.assert_close(part.weights, fit(values[rows], labels[rows], 1e-2).weights)


def test_a_number_that_never_varies_says_nothing() -> None:
    values, labels = data()
    values[:, 2] = 1e6
    assert float(fit(values, labels, 1e-2).weights[:, 2].abs().max()) < 1e-6


@pytest.mark.parametrize("normalise", ["standardise", "l2"])
def test_features_are_prepared_as_the_scaler_says(normalise: Scaling) -> None:
    values, _ = data()
    found = torch.cat([block for _, block in Design(values, normalise=normalise)]).numpy()
    expected = prepared(values, normalise)
    np.testing.assert_allclose(found, expected - expected.mean(axis=0), atol=1e-5)


def test_zero_features_stay_finite() -> None:
    values, _ = data()
    values[:5] = 0
    blocks = [block for _, block in Design(values, normalise="l2")]
    assert bool(torch.cat(blocks).isfinite().all())
