"""SeLa: labels by Sinkhorn-Knopp on the network's own predictions, and when they are renewed."""

import pytest
import torch

from ssl_zoo.methods.sela import SeLa
from tests.small import Epoch, batch, progress, small_method


def ready(*overrides: str) -> SeLa:
    """A method before its first step."""
    torch.manual_seed(0)
    method = small_method("sela", "method.n_clusters=[8, 10]", *overrides)
    assert isinstance(method, SeLa)
    method.before_epoch(progress(), Epoch())
    return method


def test_loss_equals_a_slow_reference() -> None:
    method, found = ready(), batch()
    with torch.no_grad():
        rows = torch.cat([method.backbone(group.flatten(0, 1)) for group in found.views])
        logits = [classifier(rows).double() for classifier in method.classifiers]
    targets = method.targets.of(found.index)
    terms = [
        one[row].logsumexp(0) - one[row, targets[head, row % 8]]
        for head, one in enumerate(logits)
        for row in range(len(rows))
    ]
    loss = method(found, progress()).loss.detach()
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


def test_labels_are_those_of_sinkhorn_on_powers_of_probabilities() -> None:
    """In float64 from the probabilities, biases included, as yukimasano/self-label does."""
    method = ready("method.sharpness=10", "method.sinkhorn_iterations=2000")
    method.backbone.eval()
    with torch.no_grad():
        x = torch.cat([method.backbone(one.views[0][0]) for one in Epoch().images()])
        for head, classifier in enumerate(method.classifiers):
            q = (10 * classifier(x).double().log_softmax(dim=1)).exp()
            for _ in range(2000):
                q = q / q.sum(dim=0, keepdim=True)
                q = q / q.sum(dim=1, keepdim=True)
            agree = q.argmax(dim=1) == method.targets.of(torch.arange(80))[head]
            assert float(agree.float().mean()) >= 0.9  # iterations end within 1 % of fair shares


def test_labels_stay_until_it_is_time_to_renew_them() -> None:
    method = ready("method.relabel_every=2 epochs")
    before = method.targets.of(torch.arange(80))
    with torch.no_grad():
        for classifier in method.classifiers:
            classifier.get_parameter("weight").normal_()
    method.before_epoch(progress(10), Epoch())
    assert torch.equal(method.targets.of(torch.arange(80)), before)
    method.before_epoch(progress(20), Epoch())
    assert not torch.equal(method.targets.of(torch.arange(80)), before)


def test_features_are_held_for_the_labelling_alone() -> None:
    assert ready().bank.is_empty
