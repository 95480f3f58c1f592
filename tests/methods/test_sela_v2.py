"""SeLa-v2: balanced targets, prototypes that learn, and its loss from its own embeddings."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.methods.sela_v2 import SeLaV2
from tests.small import Epoch, batch, progress, small_method


def ready(*overrides: str) -> SeLaV2:
    """A method before its first step."""
    torch.manual_seed(0)
    method = small_method("sela_v2", "method.n_prototypes=[8, 10]", *overrides)
    assert isinstance(method, SeLaV2)
    method.before_epoch(progress(), Epoch())
    return method


def test_loss_equals_a_slow_reference() -> None:
    method, found = ready(), batch()
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in found.views])
        z = normalize(method.head(features).double(), dim=1)
    targets = method.clusters.targets.of(found.index)
    terms: list[Tensor] = []
    for head, layer in enumerate(method.prototypes.sets):
        logits = (
            z @ layer.get_parameter("weight").detach().double().t() / method.config.temperature
        )
        for row in range(4 * 8):
            terms.append(logits[row].logsumexp(0) - logits[row, targets[head, row % 8]])
    loss = method(found, progress()).loss.detach()
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)


def test_each_prototype_gets_equally_many_images() -> None:
    method = ready("method.sharpness=200", "method.sinkhorn_iterations=5000")
    for targets, k in zip(method.clusters.targets.of(torch.arange(80)), (8, 10), strict=True):
        counts = torch.bincount(targets, minlength=k)
        assert int((counts - 80 // k).abs().max()) <= 1


def test_targets_are_those_of_sinkhorn_in_float64() -> None:
    method = ready("method.sharpness=2", "method.sinkhorn_iterations=1000")
    for head, layer in enumerate(method.prototypes.sets):
        z, c = (
            method.clusters.bank.embeddings(head % 2).double(),
            layer.get_parameter("weight").double(),
        )
        log_p = (z @ c.t() / method.config.temperature).log_softmax(dim=1)
        q = (2 * log_p).exp()  # SeLa: probabilities to the power of lambda
        for _ in range(1000):
            q = q / q.sum(dim=0, keepdim=True)
            q = q / q.sum(dim=1, keepdim=True)
        agree = q.argmax(dim=1) == method.clusters.targets.of(method.clusters.bank.index)[head]
        assert float(agree.float().mean()) >= 0.9  # iterations end within 1 % of fair shares


def test_prototypes_learn_once_they_are_free() -> None:
    method = ready("method.freeze_prototypes=2 steps")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    moved = []
    for step in range(3):
        method.before_step(progress(step))
        before = [p.detach().clone() for p in method.prototypes.parameters()]
        optimizer.zero_grad()
        method(batch(), progress(step)).loss.backward()
        method.after_backward(progress(step))
        optimizer.step()
        method.commit(progress(step))
        now = list(method.prototypes.parameters())
        moved.append(not all(torch.equal(a, b) for a, b in zip(before, now, strict=True)))
    assert moved == [False, False, True]


def test_prototypes_have_length_one_when_images_are_assigned_and_before_a_step() -> None:
    method = ready()
    prepares: list[Callable[[], None]] = [
        lambda: method.before_epoch(progress(10), Epoch()),
        lambda: method.before_step(progress(10)),
    ]
    for prepare in prepares:
        with torch.no_grad():
            for parameter in method.prototypes.parameters():
                parameter.mul_(3)
        prepare()
        for parameter in method.prototypes.parameters():
            torch.testing.assert_close(parameter.norm(dim=1), torch.ones(len(parameter)))
