"""The head of DINO: the authors' layers, and prototypes of length one."""

import copy

import safetensors.torch
import torch
from torch import nn

from ssl_zoo.heads.prototype_head import PrototypeHead, PrototypeHeadConfig


def head(**settings: object) -> PrototypeHead:
    torch.manual_seed(0)
    config = PrototypeHeadConfig.model_validate(
        {"hidden_dims": [5, 7], "bottleneck_dim": 4, **settings}
    )
    return PrototypeHead(config, input_dim=3)


def test_the_default_head_is_that_of_the_authors() -> None:
    """vision_transformer.py, DINOHead: three linear layers with biases, GELU, 65536 prototypes."""
    layers = PrototypeHead(PrototypeHeadConfig(), input_dim=384)
    kinds = [type(layer).__name__ for layer in layers.layers]
    assert kinds == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    expected = (384 * 2048 + 2048) + (2048 * 2048 + 2048) + (2048 * 256 + 256) + 65536 * 256
    assert sum(p.numel() for p in layers.parameters()) == expected


def test_scores_are_those_of_weight_normalisation_with_untrained_norms() -> None:
    ours = head(n_prototypes=6).double()
    features = torch.randn(5, 3, dtype=torch.float64)
    layer = nn.Linear(4, 6, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(ours.prototypes)
    layer = nn.utils.parametrizations.weight_norm(layer)
    norms = layer.get_parameter("parametrizations.weight.original0")
    directions = layer.get_parameter("parametrizations.weight.original1")
    nn.init.ones_(norms)
    expected = layer(nn.functional.normalize(ours.layers(features), dim=1))
    scores = ours(features)
    torch.testing.assert_close(scores, expected)
    weights = torch.randn_like(scores)
    (gradient,) = torch.autograd.grad((scores * weights).sum(), ours.prototypes)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), directions)
    torch.testing.assert_close(gradient, wanted)


def test_scores_are_cosines_whatever_the_length_of_prototypes() -> None:
    ours = head(n_prototypes=6)
    features = torch.randn(5, 3)
    before = ours(features)
    with torch.no_grad():
        ours.prototypes.mul_(torch.rand(6, 1) + 1)
    torch.testing.assert_close(ours(features), before)
    assert before.abs().max() <= 1 + 1e-6


def test_prototypes_are_compared_in_fp32_under_autocast() -> None:
    ours = head(n_prototypes=6)
    with torch.autocast("cpu", torch.bfloat16):
        scores = ours(torch.randn(5, 3))
        hidden = ours.layers(torch.randn(5, 3))
    assert (scores.dtype, hidden.dtype) == (torch.float32, torch.bfloat16)


def test_a_head_is_copied_and_saved_whole() -> None:
    ours = head(n_prototypes=6, batch_norm=True).double()
    features = torch.randn(5, 3, dtype=torch.float64)
    expected = copy.deepcopy(ours)(features)
    saved = safetensors.torch.load(safetensors.torch.save(ours.state_dict()))
    other = head(n_prototypes=6, batch_norm=True).double()
    other.load_state_dict(saved)
    assert torch.equal(other(features), expected)
    assert expected.dtype == torch.float64
