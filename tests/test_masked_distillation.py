"""What iBOT and DINOv2 share: both losses patch by patch, what the teacher sees, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.losses.spread import koleo
from ssl_zoo.masked_distillation import MaskedDistillation
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.runs.config import run_config
from tests.small import batch, progress, run_info, small_method, tiny_backbone

SMALL = (
    "backbone.image_size=32",
    "method.head={hidden_dims: [12], bottleneck_dim: 6, n_prototypes: 20}",
    "method.teacher_temperature=0.05",
    "method.student_temperature=0.2",
)
NAMES = ("ibot", "dinov2")


def build(name: str, *overrides: str) -> MaskedDistillation:
    """A method in float64 whose teacher and centres have moved, as later in training."""
    torch.manual_seed(0)
    method = small_method(name, *SMALL, *overrides, run=run_info(400))
    assert isinstance(method, MaskedDistillation)
    method = method.double()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for buffer in [b for path, b in method.named_buffers() if path.endswith("center")]:
            buffer.copy_(0.1 * torch.randn_like(buffer))
    return method


def images(n: int = 3) -> Batch:
    """Two global crops of which one image has no masks in the second, and two local ones."""
    found = batch(n)
    assert found.masks is not None
    masks = found.masks.clone()
    masks[0, 1] = False
    masks[1, 0, :20] = True
    return replace(
        found, views=[view.double() for view in found.views], masks=masks, n_hidden=None
    )


def tokens_of(
    method: MaskedDistillation, network: nn.Module, image: Tensor, mask: Tensor
) -> Tensor:
    """Returns the tokens of one image `(1 + L, width)`, the class token first."""
    part = network.get_submodule("trunk")
    embedded = part.get_submodule("conv_proj")(image[None]).flatten(2).transpose(1, 2)[0]
    places = part.get_parameter("encoder.pos_embedding")[0]
    rows = [
        (method.mask_token if mask[i] else embedded[i]) + places[1 + i] for i in range(len(mask))
    ]
    first = part.get_parameter("class_token")[0, 0] + places[0]
    encoder = part.get_submodule("encoder")
    inner = encoder.get_submodule("layers")(torch.stack([first, *rows])[None])
    found: Tensor = encoder.get_submodule("ln")(inner)[0]
    return found


def sharpened(method: MaskedDistillation, scores: Tensor, center: str) -> Tensor:
    """Returns the teacher's distributions of scores `(N, K)`."""
    if method.config.centering == "mean":
        exponentials = ((scores - method.get_buffer(center)) / 0.05).exp()
        return exponentials / exponentials.sum(dim=1, keepdim=True)
    q = (scores / 0.05).exp()
    for _ in range(3):
        q = q / q.sum(dim=0, keepdim=True)
        q = q / q.sum(dim=1, keepdim=True)
    return q


def cross_entropy(target: Tensor, score: Tensor) -> Tensor:
    exponentials = (score / 0.2).exp()
    return -(target * (exponentials / exponentials.sum()).log()).sum()


def slow_loss(method: MaskedDistillation, found: Batch) -> Tensor:
    """Equations 1 and 2 of iBOT, one view and one patch at a time."""
    assert found.masks is not None
    teacher, own = method.teacher, method.heads
    patch = "tokens" if method.config.shared_head else "patches"
    none = torch.zeros(64, dtype=torch.bool)
    whole, seen = {}, {}
    for view in range(2):
        for i in range(found.n_images):
            image = found.views[0][view, i]
            whole[view, i] = tokens_of(method, teacher.backbone, image, none).detach()
            seen[view, i] = tokens_of(method, method.backbone, image, found.masks[i, view])
    scores = {key: own["tokens"](tokens[:1])[0] for key, tokens in seen.items()}
    for view, crop in enumerate(found.views[1]):
        for i in range(found.n_images):
            scores[2 + view, i] = own["tokens"](method.backbone(crop[i][None]))[0]
    class_scores = torch.cat([teacher.head.get_submodule("tokens")(t[:1]) for t in whole.values()])
    targets = dict(zip(whole, sharpened(method, class_scores, "targets.center"), strict=True))
    pairs = [
        cross_entropy(targets[one, i], scores[other, i])
        for one in range(2)
        for other in range(4)
        for i in range(found.n_images)
        if one != other
    ]
    hidden = {key: found.masks[key[1], key[0]].nonzero()[:, 0].tolist() for key in whole}
    rows = [whole[key][1 + place] for key in whole for place in hidden[key]]
    of_patches = teacher.head.get_submodule(patch)(torch.stack(rows))
    patch_targets = iter(sharpened(method, of_patches, "patch_targets.center"))
    of_views = []
    for key, places in hidden.items():
        terms = [
            cross_entropy(next(patch_targets), own[patch](seen[key][1 + place][None])[0])
            for place in places
        ]
        of_views.append(torch.stack(terms).mean() if terms else torch.zeros(()).double())
    loss = torch.stack(pairs).mean() + torch.stack(of_views).mean()
    if method.config.name == "dinov2":
        for view in range(2):
            loss = loss + 0.1 * koleo(
                torch.stack([seen[view, i][0] for i in range(found.n_images)])
            )
    return loss


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_equal_a_slow_reference(name: str, centering: str, shared: str) -> None:
    method = build(name, f"method.centering={centering}", f"method.shared_head={shared}")
    found = images()
    loss, expected = method(found, progress()).loss, slow_loss(method, found)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-7)
    trained = [p for p in method.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, trained)
    for gradient, slow in zip(torch.autograd.grad(loss, trained), wanted, strict=True):
        torch.testing.assert_close(gradient, slow, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_hidden_pixels_reach_the_teacher_alone(name: str) -> None:
    method, found = build(name), images()
    assert found.masks is not None
    squares = found.masks.transpose(0, 1).reshape(2, 3, 1, 8, 8)
    squares = squares.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    other = torch.where(squares, torch.randn_like(found.views[0]), found.views[0])
    changed = method(replace(found, views=[other, *found.views[1:]]), progress())
    assert torch.equal(changed.features, method(found, progress()).features)
    assert changed.loss != method(found, progress()).loss


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_a_batch_in_which_nothing_is_hidden_costs_the_class_loss(centering: str) -> None:
    method, found = build("ibot", f"method.centering={centering}"), images()
    assert found.masks is not None
    output = method(replace(found, masks=torch.zeros_like(found.masks), n_hidden=None), progress())
    output.loss.backward()
    assert output.metrics()["patch_loss"] == 0
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_the_mean_of_patches_is_over_all_of_them() -> None:
    method, found = build("ibot", "method.centering=mean"), images()
    before = method.get_buffer("patch_targets.center").clone()
    method(found, progress())
    method.commit(progress())
    none = torch.zeros(64, dtype=torch.bool)
    tokens = [
        tokens_of(method, method.teacher.backbone, image, none)[1:]
        for image in found.views[0].flatten(0, 1)
    ]
    with torch.no_grad():
        mean = method.teacher.head.get_submodule("tokens")(torch.cat(tokens)).mean(dim=0)
    torch.testing.assert_close(
        method.get_buffer("patch_targets.center"), 0.9 * before + 0.1 * mean
    )


def test_the_teacher_follows_the_student_and_is_exported() -> None:
    method = build("dinov2", "method.momentum=0.75")
    before = copy.deepcopy(method.teacher.state_dict())
    method.after_step(progress())
    assert method.exported is method.teacher.backbone
    for path, own in method.teacher.head.named_parameters():
        student = method.heads.get_parameter(path)
        torch.testing.assert_close(own, 0.75 * before[f"head.{path}"] + 0.25 * student)


def test_prototypes_of_all_heads_are_frozen_at_first() -> None:
    method = build("dinov2")
    assert {id(p) for p in method.frozen(progress(9))} == {
        id(head.get_parameter("prototypes")) for head in method.heads.values()
    }
    assert not list(method.frozen(progress(10)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["augmentation.mask=null"],
            "augmentation masks none; set 'augmentation.mask=.*views: global",
        ),
        (
            ["augmentation.mask.views=first"],
            "masks all 4 global crops, but .* masks 1; set .*global",
        ),
        (["method.head.batch_norm=true"], "batch_norm=true .*set it to false"),
    ],
)
def test_runs_that_cannot_work_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_config("ibot", overrides=overrides)


def test_a_network_without_tokens_is_refused() -> None:
    with pytest.raises(
        UserError, match="method 'ibot' .*plain vision transformer; set backbone=vit"
    ):
        METHODS.build("ibot", backbone=tiny_backbone(), run=run_info())


def test_local_crops_change_the_loss() -> None:
    method, found = build("ibot"), images()
    assert (
        method(replace(found, views=found.views[:1]), progress()).loss
        != method(found, progress()).loss
    )
