"""The predictor: a head that predicts the embeddings of other views from embeddings."""

from torch import nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS


def build_predictor(config: NamedConfig, head: nn.Module) -> nn.Module:
    """Returns a predictor for the embeddings of a projection head.

    Args:
        config: settings of a registered head.
        head: projection head with an `output_dim`.

    Raises:
        UserError: predictions and embeddings have different lengths.
    """
    embedding = int(head.output_dim)  # type: ignore[arg-type]
    predictor: nn.Module = HEADS.build(config, input_dim=embedding)
    prediction = int(predictor.output_dim)  # type: ignore[arg-type]
    if prediction != embedding:
        raise UserError(
            f"method.predictor has output length {prediction} but method.head has output length "
            f"{embedding}; set method.predictor.output_dim={embedding}"
        )
    return predictor
