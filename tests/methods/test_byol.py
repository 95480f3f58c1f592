"""BYOL: its loss from equation 2, its teacher, and where gradients go."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.byol import BYOL
from tests.small import batch, progress, run_info, small_method


def byol(*overrides: str) -> BYOL:
    torch.manual_seed(0)
    method = small_method("byol", *overrides, run=run_info(400))
    assert isinstance(method, BYOL)
    return method


def outputs(method: BYOL, views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns predictions `(V, B, d)` and the teacher's targets `(V_g, B, d)`, unit length, float64."""
    n_images = views[0].shape[1]
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        predictions = method.predictor(method.head(features)).double()
        targets = method.teacher.head(method.teacher.backbone(views[0].flatten(0, 1))).double()
    dim = targets.shape[1]
    return (
        normalize(predictions, dim=1).view(-1, n_images, dim),
        normalize(targets, dim=1).view(-1, n_images, dim),
    )


def moved(method: BYOL) -> BYOL:
    """Moves the student away from its teacher."""
    with torch.no_grad():
        for parameter in (*method.backbone.parameters(), *method.head.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def test_two_views_are_the_sum_of_both_directions_of_equation_2() -> None:
    method = moved(byol())
    views = batch(counts=((32, 2),)).views
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    p, t = outputs(method, views)
    first = (p[0] - t[1]).square().sum(dim=1).mean()
    second = (p[1] - t[0]).square().sum(dim=1).mean()
    assert float(loss) == pytest.approx(float(first + second), abs=1e-5)


def test_local_views_predict_global_ones_and_are_no_targets() -> None:
    method = moved(byol())
    views = batch(counts=((32, 2), (16, 3))).views
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    p, t = outputs(method, views)
    distances = [
        (p[v] - t[g]).square().sum(dim=1).mean() for v in range(5) for g in range(2) if v != g
    ]
    assert float(loss) == pytest.approx(2 * float(torch.stack(distances).mean()), abs=1e-5)


def test_gradients_reach_the_student_and_not_the_teacher() -> None:
    method = byol()
    method(batch(), progress()).loss.backward()
    student = [*method.backbone.parameters(), *method.head.parameters()]
    assert all(p.grad is not None for p in (*student, *method.predictor.parameters()))
    assert all(p.grad is None for p in method.teacher.parameters())


@pytest.mark.parametrize(("step", "share"), [(0, 0.25), (50, 0.125), (100, 0.0)])
def test_the_teacher_moves_by_the_momentum_of_the_step(step: int, share: float) -> None:
    """Half a cosine from .75 to 1 over 100 steps: .875 halfway (section 3.3)."""
    method = byol("method.momentum={start: 0.75, end: 1.0}")
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in (*method.backbone.parameters(), *method.head.parameters()):
            parameter.add_(1)
    method.after_step(progress(step))
    for was, now in zip(before, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(now, was + share)


def test_a_forward_pass_leaves_the_weights_of_the_teacher() -> None:
    method = moved(byol())
    before = [p.clone() for p in method.teacher.parameters()]
    method(batch(), progress())
    assert all(
        torch.equal(was, now) for was, now in zip(before, method.teacher.parameters(), strict=True)
    )


def test_the_defaults_are_the_heads_of_the_paper() -> None:
    config = BYOL.Config()
    for head in (config.head, config.predictor):
        assert (head.hidden_dims, head.output_dim) == ([4096], 256)
    assert (config.momentum.start, config.momentum.end) == (0.99, 1.0)


def test_a_momentum_above_one_is_refused() -> None:
    with pytest.raises(UserError, match="must be between 0 and 1"):
        byol("method.momentum=1.5")


def test_a_predictor_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"set method\.predictor\.output_dim="):
        byol("method.predictor.output_dim=7")
