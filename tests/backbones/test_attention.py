"""Our self-attention against torch's."""

import copy

import torch
from torch import nn

from ssl_zoo.backbones.attention import SelfAttention, quicken


def test_it_equals_that_of_torch_with_the_same_weights() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        12, 3, dropout=0.0, batch_first=True, norm_first=True, dtype=torch.float64
    )
    quick = quicken(copy.deepcopy(layer))
    assert isinstance(quick.get_submodule("self_attn"), SelfAttention)
    assert quick.state_dict().keys() == layer.state_dict().keys()
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    expected = layer(tokens)
    torch.testing.assert_close(quick(tokens), expected)
    (gradient,) = torch.autograd.grad(expected.square().sum(), [layer.self_attn.in_proj_weight])
    weight = quick.get_parameter("self_attn.in_proj_weight")
    torch.testing.assert_close(
        torch.autograd.grad(quick(tokens).square().sum(), [weight])[0], gradient
    )
