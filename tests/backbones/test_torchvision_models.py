"""torchvision's classification models as backbones."""

from typing import Any

import pytest
import torch
from torch import nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.errors import UserError


@pytest.mark.parametrize(
    ("model", "classifier", "dim"),
    [
        ("wide_resnet50_2", "fc", 2048),
        ("convnext_tiny", "classifier.2", 768),
        ("swin_t", "head", 768),
        ("vit_b_16", "heads.head", 768),
        ("vgg11", "classifier.6", 4096),
        ("mobilenet_v3_small", "classifier.3", 1024),
    ],
)
def test_the_last_linear_layer_is_taken_off(model: str, classifier: str, dim: int) -> None:
    with torch.device("meta"):
        backbone: Any = BACKBONES.build(f"torchvision:{model}").eval()
        assert backbone(torch.zeros(2, 3, 224, 224)).shape == (2, dim)
    assert (backbone.feature_dim, backbone.classifier) == (dim, classifier)


def test_features_are_those_before_torchvisions_classifier() -> None:
    from torchvision.models import shufflenet_v2_x0_5

    source = shufflenet_v2_x0_5().eval()
    backbone = BACKBONES.build("torchvision:shufflenet_v2_x0_5").eval()
    weights = {f"trunk.{n}": t for n, t in source.state_dict().items() if n.split(".")[0] != "fc"}
    backbone.load_state_dict(weights)
    source.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone(images), source(images))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("convnext_tini", "no model 'convnext_tini'. Did you mean 'convnext_tiny'"),
        ("squeezenet1_0", "squeezenet1_0' .*linear layer"),
    ],
)
def test_unsupported_models_are_refused(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BACKBONES.build(f"torchvision:{model}")
