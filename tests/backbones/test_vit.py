"""The vision transformer around torchvision's."""

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.vit import ViT
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config

SMALL = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}


def build(**settings: object) -> ViT:
    torch.manual_seed(0)
    return ViT(ViT.Config.model_validate({**SMALL, **settings}))


def their_own() -> nn.Module:
    torch.manual_seed(1)
    theirs = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64
    )
    theirs.heads = nn.Identity()
    nn.init.normal_(theirs.class_token)  # it starts at zero
    network: nn.Module = theirs.double().eval()
    return network


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


def test_weights_of_torchvision_give_torchvisions_features() -> None:
    ours, theirs = build().double().eval(), their_own()
    ours.trunk.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(images()), theirs(images()), rtol=1e-12, atol=1e-12)


def test_a_base_model_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vit_b_16().state_dict()
        settings = {"image_size": 224, "patch_size": 16, "width": 768, "depth": 12, "heads": 12}
        ours = build(**settings).trunk.state_dict()
    expected = {key: value.shape for key, value in theirs.items() if not key.startswith("heads.")}
    assert {key: value.shape for key, value in ours.items()} == expected


def test_a_mean_is_that_of_the_patches_without_the_class_token() -> None:
    encoded = torch.tensor([[[9.0] * 16, [1.0] * 16, [4.0] * 16]])
    assert build(pooling="mean").pool(encoded).tolist() == [[2.5] * 16]


def test_a_maximum_is_that_of_the_patches_without_the_class_token() -> None:
    encoded = torch.tensor([[[9.0] * 16, [1.0] * 16, [4.0] * 16]])
    assert build(pooling="max").pool(encoded).tolist() == [[4.0] * 16]


def test_the_class_token_is_the_first() -> None:
    encoded = torch.randn(3, 5, 16)
    assert torch.equal(build(pooling="class").pool(encoded), encoded[:, 0])


def test_fixed_positions_are_not_trained() -> None:
    trained = [key for key, p in build(positions="sincos").named_parameters() if p.requires_grad]
    assert "trunk.encoder.pos_embedding" not in trained
    assert "trunk.class_token" in trained


def test_learnt_positions_are_trained() -> None:
    assert build().get_parameter("trunk.encoder.pos_embedding").requires_grad


def test_images_of_other_sizes_have_interpolated_positions() -> None:
    backbone = build()
    with torch.no_grad():  # positions that all agree stay as they are, however large the grid
        backbone.get_parameter("trunk.encoder.pos_embedding")[:] = torch.arange(16.0)
    for size in (16, 64):
        positions = backbone.positions(torch.zeros(1, 3, size, size))
        torch.testing.assert_close(positions[0], torch.arange(16.0).expand((size // 8) ** 2, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, "image_size of 30 .*patch_size=8"),
        ({"width": 15}, "width of 15 .*heads=2"),
        ({"width": 18, "positions": "sincos"}, "positions=sincos .*multiple of 4, not 18"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BACKBONES.config({"name": "vit", **SMALL, **settings})


def test_views_that_are_not_whole_patches_are_refused() -> None:
    crops = (
        "augmentation.crops=[{size: 32, count: 4, scale: [0.3, 1]},"
        " {size: 18, count: 2, scale: [0.1, 0.3]}]"
    )
    with pytest.raises(UserError, match="size 18 .*backbone.patch_size=4"):
        run_config("simclr", overrides=["backbone=vit", crops, "augmentation.local_crops=true"])
