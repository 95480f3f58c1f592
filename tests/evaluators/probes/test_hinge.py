import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from ssl_zoo.evaluators.probes.hinge import Machines, SquaredHinge, prepare

Labels = NDArray[np.int64]


def data(n: int = 80, d: int = 10, c: int = 3) -> tuple[NDArray[np.float32], Labels]:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((n, d)).astype(np.float32)
    noise = generator.standard_normal((n, c))
    return values, (values[:, :c] + noise > 0.5).astype(np.int64)


def fit(values: NDArray[np.float32], labels: Labels, cost: float, **settings: float) -> Machines:
    weight = settings.get("positive_weight", 2.0)
    machines = SquaredHinge(prepare(values), labels, positive_weight=weight)
    return machines.fit(cost, tolerance=1e-8, max_iterations=5000)


@pytest.mark.parametrize(("n", "d"), [(80, 10), (30, 60)])
@pytest.mark.parametrize("cost", [0.01, 1.0, 30.0])
def test_it_agrees_with_liblinear(cost: float, n: int, d: int) -> None:
    values, labels = data(n, d)
    ours = fit(values, labels, cost)
    assert ours.converged
    points = prepare(values).numpy()[:, :-1]
    for place in range(3):
        peer = LinearSVC(
            C=cost, class_weight={1: 2, 0: 1}, tol=1e-10, max_iter=1_000_000, dual=True
        )
        peer.fit(points, labels[:, place])
        expected = np.append(peer.coef_[0], peer.intercept_)
        np.testing.assert_allclose(ours.weights[place].numpy(), expected, atol=1e-4, rtol=1e-4)


def test_scores_are_weights_times_features_and_the_bias() -> None:
    values, labels = data()
    machines = fit(values, labels, 1.0)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    weights = machines.weights.numpy()
    np.testing.assert_allclose(
        machines.scores(prepare(values)), unit @ weights[:, :-1].T + weights[:, -1], atol=1e-6
    )


def test_images_left_out_of_a_class_have_no_pull() -> None:
    values, labels = data()
    unsure = labels.copy()
    unsure[:30, 1] = -1
    found = fit(values, unsure, 1.0).weights
    torch.testing.assert_close(
        found[1], fit(values[30:], labels[30:], 1.0).weights[1], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(found[0], fit(values, labels, 1.0).weights[0], atol=1e-5, rtol=1e-5)


def test_a_fit_after_another_is_the_same_as_alone() -> None:
    values, labels = data()
    machines = SquaredHinge(prepare(values), labels, positive_weight=2.0)
    machines.fit(0.01, tolerance=1e-8, max_iterations=5000)
    after = machines.fit(10.0, tolerance=1e-8, max_iterations=5000)
    torch.testing.assert_close(
        after.weights, fit(values, labels, 10.0).weights, atol=1e-4, rtol=1e-4
    )


def test_an_image_that_is_there_twice_counts_twice() -> None:
    values, labels = data()
    twice = fit(np.repeat(values, 2, axis=0), np.repeat(labels, 2, axis=0), 1.0).weights
    torch.testing.assert_close(twice, fit(values, labels, 2.0).weights, atol=1e-5, rtol=1e-5)


def test_too_few_steps_are_reported() -> None:
    values, labels = data()
    machines = SquaredHinge(prepare(values), labels, positive_weight=2.0)
    assert not machines.fit(100.0, tolerance=1e-8, max_iterations=2).converged
