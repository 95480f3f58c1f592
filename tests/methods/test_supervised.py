"""Training with labels: the loss, where labels come from, and data sets that have none."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch, RunInfo
from ssl_zoo.methods.supervised import Supervised
from ssl_zoo.runs.config import run_config
from tests.small import batch, progress, run_info, small_method


def supervised(*overrides: str, run: RunInfo | None = None) -> Supervised:
    torch.manual_seed(0)
    method = small_method("supervised", *overrides, run=run or run_info(400))
    assert isinstance(method, Supervised)
    return method


def reference_loss(method: Supervised, given: Batch, smoothing: float) -> Tensor:
    """Mean over views and images of -sum_k q_k ln p_k, q smoothed as in arXiv:1512.00567, section 7."""
    assert given.labels is not None
    features = torch.cat([method.backbone(group.flatten(0, 1)) for group in given.views])
    logits = method.classifier(features).view(
        -1, len(given.labels), method.classifier.out_features
    )
    n_classes = logits.shape[-1]
    terms = []
    for view in logits:
        for image, label in enumerate(given.labels.tolist()):
            p = view[image].exp() / view[image].exp().sum()
            for k in range(n_classes):
                q = (1 - smoothing) * (k == label) + smoothing / n_classes
                terms.append(-q * p[k].log())
    return torch.stack(terms).sum() / (len(logits) * len(given.labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("counts", [((32, 1),), ((32, 2), (16, 3))])
def test_loss_and_gradient_equal_a_slow_reference(
    counts: tuple[tuple[int, int], ...], smoothing: float
) -> None:
    method = supervised(f"method.label_smoothing={smoothing}").double()
    given = batch(6, counts)
    given = replace(given, views=[view.double() for view in given.views])
    expected = reference_loss(method, given, smoothing)
    loss = method(given, progress()).loss
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    parameters = list(method.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)


def test_an_undecided_classifier_costs_ln_of_the_number_of_classes() -> None:
    method = supervised()
    torch.nn.init.zeros_(method.classifier.weight)
    torch.nn.init.zeros_(method.classifier.bias)
    assert float(method(batch(), progress()).loss.detach()) == pytest.approx(math.log(4))


def test_top1_is_the_percentage_of_views_that_are_right() -> None:
    method = supervised()
    torch.nn.init.zeros_(method.classifier.weight)
    with torch.no_grad():
        method.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))  # always class 1
    given = replace(batch(), labels=torch.tensor([1, 1, 1, 0, 0, 2, 3, 1]))
    assert method(given, progress()).metrics()["top1"] == 50.0


def test_one_global_crop_is_enough() -> None:
    config = run_config(
        "supervised", overrides=["augmentation.crops=[{size: 32, count: 1, scale: [0.3, 1.0]}]"]
    )
    assert config.method.name == "supervised"


def test_the_backbone_alone_is_exported() -> None:
    method = supervised()
    assert method.exported is method.backbone
    assert method.classifier.out_features == 4


def test_classes_that_never_occur_do_no_harm() -> None:
    method = supervised(run=replace(run_info(400), n_classes=9))
    loss = method(batch(), progress()).loss
    loss.backward()
    assert loss.isfinite()
    assert method.classifier.bias.grad is not None
    assert (method.classifier.bias.grad[4:] > 0).all()  # pushed down, as for any wrong class


def test_a_data_set_without_classes_is_refused() -> None:
    with pytest.raises(UserError, match="needs classes, but the data set names none"):
        supervised(run=replace(run_info(), n_classes=None))


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = supervised()(batch(), progress()).loss
    assert loss.dtype == torch.float32
