"""Projection head and prototypes, against the layers they are described by."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize


def build(kind: str = "mlp", **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return HEADS.build({"name": kind, **settings}, input_dim=6)


def layers(head: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in head.get_submodule("layers").children()]


def test_the_default_head_is_that_of_swav() -> None:
    """facebookresearch/swav, src/resnet50.py: Linear, BatchNorm1d, ReLU, Linear; all with biases."""
    head = HEADS.build("mlp", input_dim=2048)
    assert layers(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    expected = (2048 * 2048 + 2048) + 2 * 2048 + (2048 * 128 + 128)
    assert sum(p.numel() for p in head.parameters()) == expected


def test_the_head_of_simclr_normalises_its_embedding_and_has_no_biases() -> None:
    head = build(hidden_bias=False, output_bias=False, output_batch_norm=True, hidden_dims=[8])
    assert layers(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert [
        key for key, p in head.named_parameters() if key.endswith("bias") and p.dim() != 1
    ] == []
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert [layer.bias for layer in linear] == [None, None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"hidden_dims": []}, ["Linear"]),
        ({"hidden_dims": [8], "batch_norm": False}, ["Linear", "ReLU", "Linear"]),
        ({"hidden_dims": [8, 8]}, ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]),
        (
            {"hidden_dims": [8], "activation": "leaky_relu"},
            ["Linear", "BatchNorm1d", "LeakyReLU", "Linear"],
        ),
        (
            {"hidden_dims": [8], "batch_norm": False, "activation": "gelu"},
            ["Linear", "GELU", "Linear"],
        ),
    ],
)
def test_layers_are_as_many_as_asked_for(settings: dict[str, Any], expected: list[str]) -> None:
    assert layers(build(**settings)) == expected


def test_embeddings_have_the_length_that_is_asked_for() -> None:
    head = build(hidden_dims=[8], output_dim=5)
    assert head(torch.randn(4, 6)).shape == (4, 5)
    assert head.output_dim == 5


def test_normalised_rows_have_length_one_in_fp32_under_autocast() -> None:
    rows = torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        unit = l2_normalize(rows.bfloat16())
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))


def prototype_sets(head: nn.Module) -> list[Tensor]:
    return [layer.get_parameter("weight") for layer in head.get_submodule("sets").children()]


def test_scores_are_cosines_of_embeddings_and_prototypes() -> None:
    head = build("prototypes", n_prototypes=[3, 5])
    embeddings = l2_normalize(torch.randn(4, 6))
    for scores, weight in zip(head(embeddings), prototype_sets(head), strict=True):
        expected = nn.functional.cosine_similarity(embeddings[:, None], weight[None], dim=2)
        torch.testing.assert_close(scores, expected)


def test_each_set_has_its_number_of_prototypes_of_length_one() -> None:
    head = build("prototypes", n_prototypes=[3, 5])
    assert [len(weight) for weight in prototype_sets(head)] == [3, 5]
    for weight in prototype_sets(head):
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))


def test_normalising_keeps_directions() -> None:
    head = build("prototypes", n_prototypes=[3])
    (weight,) = prototype_sets(head)
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(torch.tensor([[2.0], [0.5], [7.0]]))
    head.normalize()  # type: ignore[operator]
    torch.testing.assert_close(weight.detach(), before)


def test_scores_are_computed_in_fp32_under_autocast() -> None:
    head = build("prototypes", n_prototypes=[3])
    embeddings = l2_normalize(torch.randn(4, 6))
    with torch.autocast("cpu", torch.bfloat16):
        (scores,) = head(embeddings)
    assert torch.equal(scores, head(embeddings)[0])
