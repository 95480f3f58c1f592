"""The predictor fits the head that it stands on."""

import pytest
import torch

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.predictor import build_predictor


def mlp(output_dim: int) -> NamedConfig:
    return HEADS.config({"name": "mlp", "hidden_dims": [8], "output_dim": output_dim})


def test_it_maps_embeddings_to_vectors_of_their_length() -> None:
    predictor = build_predictor(mlp(5), head=HEADS.build(mlp(5), input_dim=3))
    assert predictor(torch.randn(4, 5)).shape == (4, 5)


def test_another_length_is_refused_with_the_way_out() -> None:
    head = HEADS.build(mlp(5), input_dim=3)
    with pytest.raises(UserError, match=r"set method\.predictor\.output_dim=5$"):
        build_predictor(mlp(6), head=head)
