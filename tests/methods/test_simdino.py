"""SimDINO: its loss from its own embeddings, the teacher, and what the alarm watches."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.method import Batch
from ssl_zoo.methods.simdino import SimDINO
from tests.small import COUNTS, batch, progress, small_method


def build(*overrides: str) -> SimDINO:
    """A method whose teacher has moved, as later in training."""
    torch.manual_seed(0)
    method = small_method("simdino", "method.head.output_dim=6", *overrides)
    assert isinstance(method, SimDINO)
    method = method.double()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def images(counts: tuple[tuple[int, int], ...] = COUNTS) -> Batch:
    found = batch(counts=counts)
    return Batch([view.double() for view in found.views], found.index)


def slow_loss(method: SimDINO, found: Batch) -> Tensor:
    """The paper's loss with determinants, over pairs of a teacher's and another student's view."""
    config, n, n_global = method.config, found.n_images, found.n_global
    z = method.head(torch.cat([method.backbone(group.flatten(0, 1)) for group in found.views]))
    z = normalize(z, dim=1).view(-1, n, z.shape[1])
    t = normalize(method.teacher(found.views[:1]), dim=1).view(-1, n, z.shape[2])
    pairs = [
        (t[one] * z[other]).sum(dim=1).mean()
        for one in range(n_global)
        for other in range(len(z))
        if one != other
    ]
    dim = z.shape[2]
    scale = dim / (n * config.epsilon)
    identity = torch.eye(dim).double()
    rates = [(identity + scale * view.T @ view).det().log() / 2 for view in z[:n_global]]
    gamma = (dim + n) / (dim * n)
    rate, cosine = torch.stack(rates).mean(), torch.stack(pairs).mean()
    loss: Tensor = -config.similarity_weight * cosine - gamma * rate
    return loss


@pytest.mark.parametrize("counts", [COUNTS, ((32, 2),), ((32, 3), (16, 1))])
def test_loss_and_gradient_equal_a_slow_reference(counts: tuple[tuple[int, int], ...]) -> None:
    method = build("method.similarity_weight=2", "method.epsilon=0.1")
    found = images(counts)
    loss, expected = method(found, progress()).loss, slow_loss(method, found)
    torch.testing.assert_close(loss, expected)
    trained = [p for p in method.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, trained)
    for gradient, slow in zip(torch.autograd.grad(loss, trained), wanted, strict=True):
        torch.testing.assert_close(gradient, slow, rtol=1e-6, atol=1e-9)


def test_the_teacher_follows_the_student_and_is_exported() -> None:
    method = build("method.momentum=0.75")
    before = copy.deepcopy(method.teacher.state_dict())
    method.after_step(progress())
    assert method.exported is method.teacher.backbone
    for path, own in method.teacher.head.named_parameters():
        student = method.head.get_parameter(path)
        torch.testing.assert_close(own, 0.75 * before[f"head.{path}"] + 0.25 * student)


def test_equal_embeddings_fill_little_and_different_ones_more() -> None:
    method = build("method.epsilon=0.05")
    different = method(images(), progress()).metrics()["filled"]
    with torch.no_grad():
        last = [m for m in method.head.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.weight.zero_()
    equal = method(images(), progress()).metrics()["filled"]
    largest = 6 / 2 * math.log1p(1 / 0.05)
    assert equal == pytest.approx(math.log1p(6 / 0.05) / 2 / largest)
    assert equal < different <= 1


def test_defaults_are_those_of_the_paper() -> None:
    config = SimDINO.Config()
    assert (config.similarity_weight, config.epsilon) == (1.0, 0.05)
    assert config.momentum.start == 0.996
