"""DINO: its loss and gradient from the paper's formulas in float64, the centre, the teacher."""

import math
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.config import Config
from ssl_zoo.errors import UserError
from ssl_zoo.memory.centering import MeanCentering, SinkhornCentering, target_metrics
from ssl_zoo.method import Batch
from ssl_zoo.methods.dino import DINO
from ssl_zoo.training.alarms import AlarmBell
from tests.distributed import run_on_ranks
from tests.small import batch, progress, run_info, small_method

SMALL = (
    "method.head={hidden_dims: [12], bottleneck_dim: 6, n_prototypes: 20}",
    "method.centering=mean",
)


def dino(*overrides: str) -> DINO:
    torch.manual_seed(0)
    method = small_method("dino", *SMALL, *overrides, run=run_info(400))
    assert isinstance(method, DINO)
    return method


def step_of(method: DINO, step: int = 0, views: list[Tensor] | None = None) -> None:
    """Forward pass and what follows the optimizer, which stands still."""
    views = batch().views if views is None else views
    method(Batch(views, torch.arange(views[0].shape[1])), progress(step))
    method.after_step(progress(step))
    method.commit(progress(step))


def scores_of(backbone: nn.Module, head: nn.Module, views: list[Tensor]) -> Tensor:
    """Head outputs `(V, B, K)`: MLP, length one, inner products with prototypes of length one."""
    features = torch.cat([backbone(group.flatten(0, 1)) for group in views])
    z = head.get_submodule("layers")(features)
    z = z / z.pow(2).sum(dim=1, keepdim=True).sqrt()
    prototypes = head.get_parameter("prototypes")
    w = prototypes / prototypes.pow(2).sum(dim=1, keepdim=True).sqrt()
    scores: Tensor = (z @ w.T).view(-1, views[0].shape[1], len(w))
    return scores


def balanced(scores: Tensor, temperature: float, n_iterations: int) -> Tensor:
    """Algorithm of SwAV's appendix over the rows of all global views, `(N, K)`."""
    q = (scores / temperature).exp().T
    q = q / q.sum()
    for _ in range(n_iterations):
        q = q / q.sum(dim=1, keepdim=True) / q.shape[0]
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


def reference_loss(
    method: DINO, views: list[Tensor], *, student_t: float, teacher_t: float, codes: bool = False
) -> Tensor:
    """Equations 1 to 4 of the paper: every pair of a global view and another view, one at a time."""
    student = scores_of(method.backbone, method.head, views)
    with torch.no_grad():
        teacher = scores_of(method.teacher.backbone, method.teacher.head, views[:1])
        if codes:
            p_teacher = balanced(teacher.flatten(0, 1), teacher_t, 3).view_as(teacher)
        else:
            center = method.get_buffer("targets.center")
            exponentials = ((teacher - center) / teacher_t).exp()
            p_teacher = exponentials / exponentials.sum(dim=-1, keepdim=True)
    terms = []
    for x in range(len(teacher)):
        for other in range(len(student)):
            if other == x:
                continue
            for image in range(views[0].shape[1]):
                exponentials = (student[other, image] / student_t).exp()
                p_student = exponentials / exponentials.sum()
                terms.append(-(p_teacher[x, image] * p_student.log()).sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
@pytest.mark.parametrize("counts", [((32, 2),), ((32, 2), (16, 3)), ((32, 3),)])
def test_loss_and_gradient_equal_a_slow_reference(
    counts: tuple[tuple[int, int], ...], centering: str
) -> None:
    method = dino(
        f"method.centering={centering}",
        "method.teacher_temperature=0.05",
        "method.student_temperature=0.2",
    ).double()
    with torch.no_grad():  # teacher and centre of their own, as later in training
        for parameter in method.teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for buffer in [b for name, b in method.named_buffers() if name.endswith("center")]:
            buffer.copy_(0.1 * torch.randn_like(buffer))
    views = [view.double() for view in batch(4, counts).views]
    codes = centering == "sinkhorn"
    expected = reference_loss(method, views, student_t=0.2, teacher_t=0.05, codes=codes)
    loss = method(Batch(views, torch.arange(4)), progress()).loss
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    student = [*method.backbone.parameters(), *method.head.parameters()]
    gradients = torch.autograd.grad(loss, student)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, student), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)


def test_uniform_targets_and_predictions_cost_ln_k() -> None:
    method = dino().double()
    with torch.no_grad():
        for head in (method.head, method.teacher.head):
            prototypes = head.get_parameter("prototypes")
            prototypes.copy_(prototypes[:1].expand_as(prototypes))
    views = [view.double() for view in batch().views]
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    assert float(loss.detach()) == pytest.approx(math.log(20), abs=1e-12)


def test_one_image_has_a_finite_gradient() -> None:
    method = dino("method.head.batch_norm=false")
    loss = method(batch(1), progress()).loss
    loss.backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_teacher_sees_global_crops_alone() -> None:
    method = dino()
    seen = []
    method.teacher.backbone.register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(inputs[0].shape))
    )
    method(batch(), progress())
    assert seen == [(2 * 8, 3, 32, 32)]


def test_the_centre_follows_the_mean_of_the_teachers_scores() -> None:
    method = dino("method.center_momentum=0.75")
    views = batch().views
    with torch.no_grad():
        scores = scores_of(method.teacher.backbone, method.teacher.head, views[:1])
    step_of(method, views=views)
    center = method.get_buffer("targets.center")
    torch.testing.assert_close(center, 0.25 * scores.mean(dim=(0, 1)))


def test_the_centre_waits_for_the_optimizers_step() -> None:
    method = dino()
    for _ in range(2):  # two parts of an accumulated batch
        method(batch(), progress())
    assert not method.get_buffer("targets.center").any()


def test_parts_of_an_accumulated_batch_count_as_one() -> None:
    scores = torch.randn(12, 5, dtype=torch.float64)
    whole, parts = (MeanCentering(5, momentum=0.9).double() for _ in range(2))
    whole(scores, temperature=1.0)
    for part in scores.chunk(3):
        parts(part, temperature=1.0)
    whole.commit(progress())
    parts.commit(progress())
    torch.testing.assert_close(parts.center, whole.center)


def test_scoring_leaves_the_centre_alone() -> None:
    method = dino().eval()
    step_of(method)
    assert not method.get_buffer("targets.center").any()


def test_the_centre_goes_with_the_state() -> None:
    method = dino()
    step_of(method)
    other = dino()
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(method.state_dict())))
    center = method.get_buffer("targets.center")
    assert center.any()
    assert torch.equal(other.get_buffer("targets.center"), center)


def _centre_on_a_rank(scores: Tensor) -> Tensor:
    centering = MeanCentering(scores.shape[1], momentum=0.9)
    for step in range(3):
        own = (scores + step).chunk(distributed.world_size())[distributed.rank()]
        centering(own, temperature=1.0)
        centering.commit(progress())
    center: Tensor = centering.center
    return center


@pytest.mark.distributed
def test_the_centre_is_equal_on_all_ranks_and_that_of_one_process() -> None:
    scores = torch.randn(8, 5)
    first, second = run_on_ranks(_centre_on_a_rank, 2, scores)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, _centre_on_a_rank(scores))


def test_codes_are_balanced_over_both_global_views_together() -> None:
    """As in DINOv2; each view by itself, as in SwAV, would be another problem."""
    scores = torch.rand(2, 4, 3, dtype=torch.float64)
    centering = SinkhornCentering(3)
    together = centering(scores.flatten(0, 1), temperature=0.1)
    apart = torch.cat([centering(view, temperature=0.1) for view in scores])
    torch.testing.assert_close(together, balanced(scores.flatten(0, 1), 0.1, 3))
    assert (together - apart).abs().max() > 1e-3


@pytest.mark.parametrize(("step", "expected"), [(0, 0.04), (10, 0.05), (30, 0.07), (99, 0.07)])
def test_the_teachers_temperature_rises_line_by_line(step: int, expected: float) -> None:
    ramp = "{start: 0.04, end: 0.07, shape: linear, over: 3 epochs}"
    method = dino(f"method.teacher_temperature={ramp}")
    seen = []
    targets: Callable[..., Tensor] = method.targets.forward
    method.targets.forward = lambda scores, *, temperature: (
        seen.append(temperature) or targets(scores, temperature=temperature)  # type: ignore[func-returns-value]
    )
    method(batch(), progress(step))
    assert seen == [pytest.approx(expected)]


def test_the_teacher_is_what_is_exported() -> None:
    method = dino()
    assert method.exported is method.teacher.backbone


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.9), (50, 0.95)])
def test_the_teacher_follows_with_a_momentum_that_rises_by_a_cosine(
    step: int, momentum: float
) -> None:
    method = dino("method.momentum={start: 0.9, end: 1.0}")
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in (*method.backbone.parameters(), *method.head.parameters()):
            parameter.add_(1)
    method.after_step(progress(step))
    for was, now in zip(before, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(now, was + (1 - momentum))


@pytest.mark.parametrize(("step", "frozen"), [(0, True), (9, True), (10, False)])
def test_prototypes_are_frozen_for_the_first_epoch(step: int, frozen: bool) -> None:
    method = dino()
    method(batch(), progress(step)).loss.backward()
    method.after_backward(progress(step))
    assert (method.head.prototypes.grad is None) is frozen


def test_metrics_of_uniform_targets() -> None:
    targets = torch.full((2, 4, 16), 1 / 16, dtype=torch.float64)
    metrics = target_metrics(torch.tensor(math.log(16), dtype=torch.float64), targets)
    assert metrics == {
        "teacher_entropy": pytest.approx(1),
        "mean_target_entropy": pytest.approx(1),
        "kl": pytest.approx(0, abs=1e-12),
        "loss_over_chance": pytest.approx(1),
    }


def test_metrics_of_sharp_targets_that_use_all_prototypes() -> None:
    targets = torch.eye(16)[:, None]
    metrics = target_metrics(torch.tensor(0.5), targets)
    assert metrics == {
        "teacher_entropy": 0,
        "mean_target_entropy": pytest.approx(1),
        "kl": 0.5,
        "loss_over_chance": pytest.approx(0.5 / math.log(16)),
    }


def _metrics_on_a_rank(targets: Tensor) -> dict[str, float]:
    metrics: dict[str, float] = target_metrics(torch.tensor(0.5), targets[distributed.rank()])
    return metrics


@pytest.mark.distributed
def test_metrics_count_the_images_of_all_ranks() -> None:
    """Each rank's images share a prototype, but not the same."""
    targets = torch.eye(2)[:, None, None].expand(2, 2, 4, 2)
    for metrics in run_on_ranks(_metrics_on_a_rank, 2, targets):
        assert metrics["mean_target_entropy"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("targets", "advice"),
    [
        (torch.full((2, 4, 16), 1 / 16), "lower method.teacher_temperature"),
        (torch.eye(16)[:1].expand(2, 4, 16), "raise method.teacher_temperature"),
    ],
    ids=["uniform", "one_prototype"],
)
def test_each_collapse_rings_with_its_own_advice(targets: Tensor, advice: str) -> None:
    bell = AlarmBell(DINO.alarms, quiet_steps=0)
    metrics = target_metrics(torch.tensor(1.0), targets)
    (line,) = [line for step in range(1, 6) for line in bell.hear(step, metrics)]
    assert advice in line


def test_a_healthy_run_rings_nothing() -> None:
    bell = AlarmBell(DINO.alarms, quiet_steps=0)
    metrics = target_metrics(torch.tensor(1.0), torch.eye(16)[:, None])
    assert [line for step in range(1, 9) for line in bell.hear(step, metrics)] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.momentum=1.5", "1.5 to 1.5 must be between 0"),
        ("method.teacher_temperature=0", "0.0 to 0.0 must be between 0.001"),
        ("method.center_momentum=1", "method.center_momentum"),
        ("method.centering=median", "'mean' or 'sinkhorn'"),
        ("method.head.n_prototypes=1", "method.head.n_prototypes"),
    ],
)
def test_settings_out_of_bounds_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dino(override)


def test_defaults_are_those_of_the_paper() -> None:
    config: Config = DINO.Config()
    found = config.model_dump(mode="json")
    assert found["momentum"] == {"start": 0.996, "end": 1.0, "shape": "cosine", "over": None}
    assert found["teacher_temperature"] == {
        "start": 0.04,
        "end": 0.07,
        "shape": "linear",
        "over": "30 epochs",
    }
    assert found["student_temperature"] == 0.1
    assert found["center_momentum"] == 0.9
    assert found["freeze_prototypes"] == "1 epoch"
