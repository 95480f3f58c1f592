"""The predictor: a head that maps embeddings to embeddings of other views."""

from torch import nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS


def build_predictor(config: NamedConfig, head: nn.Module) -> nn.Module:
    """Returns a predictor of what a projection head makes.

    Args:
        config: settings of a registered head.
        head: has an `output_dim`.

    Raises:
        UserError: predictions would not be as long as embeddings.
    """
    embedding = int(head.output_dim)  # type: ignore[arg-type]
    predictor: nn.Module = HEADS.build(config, input_dim=embedding)
    prediction = int(predictor.output_dim)  # type: ignore[arg-type]
    if prediction != embedding:
        raise UserError(
            f"method.predictor makes predictions of length {prediction} and method.head embeddings "
            f"of {embedding}; set method.predictor.output_dim={embedding}"
        )
    return predictor
