"""The methods that `method_steps.py` times: ours as configured, peers as built, of the same sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ssl_zoo.backbones.base import BACKBONES

N_PROTOTYPES = 3000
N_CLUSTERS = 128
QUEUE = 16384
N_CLASSES = 10
DECODER = {"width": 128, "depth": 4, "heads": 4}
VIT = {"image_size": 32, "patch_size": 4, "width": 192, "depth": 12, "heads": 3}


def mlp(*dims: int, **options: bool) -> dict[str, Any]:
    """Returns the config of a head with normalised hidden layers that have no bias."""
    *hidden, output = dims
    return {
        "name": "mlp",
        "hidden_dims": hidden,
        "output_dim": output,
        "hidden_bias": False,
        **options,
    }


def resnet() -> Any:
    """Returns the backbone of ours and of all peers."""
    return BACKBONES.build({"name": "resnet18", "stem": "cifar"})


def timm_vit() -> nn.Module:
    """Returns the peers' ViT, of the sizes of ours."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=VIT["image_size"],
        patch_size=VIT["patch_size"],
        embed_dim=VIT["width"],
        depth=VIT["depth"],
        num_heads=VIT["heads"],
        num_classes=0,
    )


Build = Callable[[Any], nn.Module]  # from the package's methods to a peer's model


@dataclass(frozen=True)
class Case:
    """A method as ours is configured and as peers are built."""

    config: dict[str, Any]
    lightly: Build | None = None
    stable: Build | None = None
    crops: tuple[str, ...] = ("2x32",)
    vit: bool = False
    hidden: float = 0.0
    """Part of the patches that is hidden."""
    n_images: int | None = None
    """Images of an epoch; so many that no queue is too long when not given."""


def _stable(name: str, how: str = "TwoViews", net: Callable[[], nn.Module] = resnet) -> Any:
    """Returns a function from settings to a builder of stable-pretraining's method."""

    def with_settings(**settings: Any) -> Build:
        def build(package: Any) -> nn.Module:
            from stable_pretraining import methods

            model: nn.Module = getattr(package, how)(getattr(methods, name)(net(), **settings))
            return model

        return build

    return with_settings


def _lightly_pair(head: str, criterion: str, *dims: int, **options: Any) -> Build:
    """Returns a builder of lightly's methods that are a head and a criterion."""

    def build(package: Any) -> nn.Module:
        from lightly import loss
        from lightly.models.modules import heads

        model: nn.Module = package.TwoViews(
            resnet(), getattr(heads, head)(512, *dims), getattr(loss, criterion)(**options)
        )
        return model

    return build


CASES = [
    Case(
        {"name": "simclr", "head": mlp(2048, 128, output_batch_norm=True), "temperature": 0.5},
        _lightly_pair("SimCLRProjectionHead", "NTXentLoss", 2048, 128, temperature=0.5),
        _stable("SimCLR")(projector_dims=(2048, 128)),
    ),
    Case(
        {
            "name": "moco_v2",
            "head": {"name": "mlp", "hidden_dims": [2048], "output_dim": 128, "batch_norm": False},
            "queue_length": QUEUE,
        },
        lambda package: package.MoCoV2(resnet(), hidden=2048, dim=128, queue=QUEUE),
        _stable("MoCov2")(projector_dims=(2048, 128), queue_length=QUEUE),
    ),
    Case(
        {
            "name": "moco_v3",
            "head": mlp(4096, 256, output_bias=False, output_batch_norm=True, output_affine=False),
            "predictor": mlp(4096, 256, output_bias=False),
        },
        None,
        _stable("MoCov3")(projector_dims=(4096, 256), predictor_hidden_dim=4096, temperature=1.0),
    ),
    Case(
        {
            "name": "nnclr",
            "head": mlp(2048, 2048, 256, output_batch_norm=True),
            "predictor": mlp(4096, 256),
            "queue_length": QUEUE,
        },
        lambda package: package.NNCLR(resnet(), hidden=2048, dim=256, queue=QUEUE),
        _stable("NNCLR")(
            projector_dims=(2048, 256), predictor_hidden_dim=4096, queue_length=QUEUE
        ),
    ),
    Case(
        {"name": "byol", "head": mlp(4096, 256), "predictor": mlp(4096, 256)},
        lambda package: package.BYOL(resnet(), hidden=4096, dim=256),
        _stable("BYOL")(projector_dims=(4096, 256), predictor_dims=(4096, 256)),
    ),
    Case(
        {
            "name": "simsiam",
            "head": mlp(2048, 2048, 2048, output_batch_norm=True, output_affine=False),
            "predictor": mlp(512, 2048),
        },
        lambda package: package.SimSiam(resnet(), dim=2048, bottleneck=512),
        _stable("SimSiam")(projector_dim=2048, predictor_hidden_dim=512),
    ),
    Case(
        {"name": "barlow_twins", "head": mlp(2048, 2048, 2048, output_bias=False)},
        _lightly_pair("BarlowTwinsProjectionHead", "BarlowTwinsLoss", 2048, 2048),
        _stable("BarlowTwins")(projector_dims=(2048, 2048, 2048)),
    ),
    Case(
        {"name": "vicreg", "head": mlp(2048, 2048, 2048, output_bias=False)},
        _lightly_pair("VICRegProjectionHead", "VICRegLoss", 2048, 2048),
        _stable("VICReg")(projector_dims=(2048, 2048, 2048)),
    ),
    Case(
        {
            "name": "swav",
            "head": mlp(2048, 128),
            "n_prototypes": [N_PROTOTYPES],
            "freeze_prototypes": "0 steps",
        },
        lambda package: package.SwAV(resnet(), hidden=2048, dim=128, n_prototypes=N_PROTOTYPES),
        _stable("SwAV", "MultiCrop")(projector_dims=(2048, 128), n_prototypes=N_PROTOTYPES),
        crops=("2x32", "2x32 + 4x16"),
    ),
    Case(
        {
            "name": "dino",
            "head": {
                "hidden_dims": [2048, 2048],
                "bottleneck_dim": 256,
                "n_prototypes": N_PROTOTYPES,
            },
            "freeze_prototypes": "0 steps",
        },
        lambda package: package.DINO(
            resnet(), hidden=2048, bottleneck=256, n_prototypes=N_PROTOTYPES
        ),
        _stable("DINO", "MultiCrop")(n_prototypes=N_PROTOTYPES),
        crops=("2x32", "2x32 + 4x16"),
    ),
    Case({"name": "deepcluster", "n_clusters": N_CLUSTERS, "pca_dim": 64}, n_images=256),
    Case({"name": "sela", "n_clusters": [N_CLUSTERS] * 10}, n_images=256),
    *(
        Case(
            {"name": name, "head": mlp(2048, 128), "n_prototypes": [N_CLUSTERS] * 3}, n_images=256
        )
        for name in ("deepcluster_v2", "sela_v2")
    ),
    Case(
        {"name": "supervised"},
        None,
        lambda package: package.Supervised(resnet(), n_classes=N_CLASSES),
        crops=("1x32",),
    ),
    Case(
        {"name": "mae", "decoder": DECODER},
        lambda package: package.MAE(timm_vit(), **DECODER),
        _stable("MAE", "OneView", timm_vit)(
            decoder_embed_dim=DECODER["width"],
            decoder_depth=DECODER["depth"],
            decoder_num_heads=DECODER["heads"],
        ),
        crops=("1x32",),
        vit=True,
        hidden=0.75,
    ),
    Case(
        {"name": "simmim"},
        lambda package: package.SimMIM(timm_vit()),
        _stable("SimMIM", "OneView", timm_vit)(patch_size=VIT["patch_size"], image_size=32),
        crops=("1x32",),
        vit=True,
        hidden=0.6,
    ),
]
