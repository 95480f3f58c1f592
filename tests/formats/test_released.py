"""Files of released vision transformers: read without help, they give what their authors' code gives.

The reference is the code of timm, transformers and open_clip where they are installed, with the names and
numbers of the original files.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.weights.open import Opened, open_checkpoint

SIZES = {"embed_dim": 128, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}


def drawn(net: nn.Module) -> Any:
    """Returns a network with random weights everywhere, so that nothing that starts at 0 or 1 hides."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def opened(folder: Path, content: Any, format: Any = None) -> Opened:
    torch.save(content, folder / "x.pth")
    return open_checkpoint(folder / "x.pth", format=format)


def assert_same(found: Opened, expected: Tensor, size: int = 32) -> None:
    with torch.no_grad():
        torch.testing.assert_close(found.backbone(images(size)), expected, rtol=1e-4, atol=1e-4)


def of_timm(kind: str = "VisionTransformer", **settings: Any) -> Any:
    module = pytest.importorskip(
        f"timm.models.{'beit' if kind == 'Beit' else 'vision_transformer'}"
    )
    return drawn(getattr(module, kind)(num_classes=0, **SIZES | settings))


def dinov2_network(*, gated: bool = False, registers: int = 0) -> tuple[Any, dict[str, Tensor]]:
    """Returns timm's DINOv2, and its weights under the names of facebookresearch/dinov2."""
    layers = pytest.importorskip("timm.layers")
    more: dict[str, Any] = {"mlp_layer": layers.SwiGLUPacked, "mlp_ratio": 4.0} if gated else {}
    more |= {"act_layer": nn.SiLU} if gated else {}
    more |= {"reg_tokens": registers, "no_embed_class": True} if registers else {}
    net = of_timm(init_values=1.0, dynamic_img_size=True, **more)
    state = dict(net.state_dict()) | {"mask_token": torch.zeros(1, 128)}
    if registers:
        state["register_tokens"] = state.pop("reg_token")
        # timm folded the position of the class token into the token; undo it with one of 0.1
        state["cls_token"] = state["cls_token"] - 0.1
        first = torch.full((1, 1, 128), 0.1)
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    if gated:
        for old, new in ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3.")):
            state = {name.replace(old, new): t for name, t in state.items()}
    return net, state


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_is_read(gated: bool, registers: int, tmp_path: Path) -> None:
    net, state = dinov2_network(gated=gated, registers=registers)
    found = opened(tmp_path, state)
    assert (found.facts.format, found.facts.image_size) == ("dinov2", 224)
    assert_same(found, net(images()))


def test_positions_of_dinov2_with_registers_are_antialiased(tmp_path: Path) -> None:
    net, state = dinov2_network(registers=4)
    assert_same(opened(tmp_path, state), net(images(16)), 16)


def test_positions_of_dinov2_without_registers_have_a_tenth_of_a_patch_more(
    tmp_path: Path,
) -> None:
    net, state = dinov2_network()
    found: Any = opened(tmp_path, state).backbone
    grid = net.pos_embed[:, 1:].view(1, 4, 4, 128).permute(0, 3, 1, 2)
    scale = (2 + 0.1) / 4  # facebookresearch/dinov2, interpolate_pos_encoding
    wanted = nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    assert torch.equal(found.positions(images(16)), wanted.flatten(2).transpose(1, 2))


def test_the_teacher_of_training_files_is_read(tmp_path: Path) -> None:
    net, state = dinov2_network(gated=True)
    chunked = {
        f"backbone.{name.replace('blocks.0', 'blocks.0.0').replace('blocks.1', 'blocks.1.1')}": t
        for name, t in state.items()
    }
    teacher = chunked | {"dino_head.mlp.0.weight": torch.zeros(4, 4)}
    found = opened(tmp_path, {"teacher": teacher})
    assert found.facts.format == "dinov2"
    assert "dino_head.mlp.0.weight" in found.aside
    assert_same(found, net(images()))


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_in_timms_names_is_read(registers: int, tmp_path: Path) -> None:
    net, _ = dinov2_network(gated=True, registers=registers)
    assert_same(opened(tmp_path, net.state_dict()), net(images()))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_beit_is_read(pooled: bool, shared: bool, tmp_path: Path) -> None:
    net = of_timm(
        "Beit",
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        global_pool="avg" if pooled else "token",
    )
    state = dict(net.state_dict())
    index = {"blocks.0.attn.relative_position_index": torch.zeros(17, 17)}
    place = "module" if shared else "model"
    head = {"lm_head.weight": torch.zeros(4, 4), "mask_token": torch.zeros(1, 1, 128)}
    found = opened(tmp_path, {place: state | index | head})
    assert found.facts.format == "beit"
    assert_same(found, net(images()))
    with pytest.raises(UserError, match="relative positions for images of 32x32 pixels only"):
        found.backbone(images(16))


def dinov3_in_original_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns transformers' DINOv3 with the names of the released files, and NaN where keys have no bias."""
    found = {}
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.mask_token": "mask_token",
    }
    for name, tensor in state.items():
        name = name.removeprefix("model.")
        new = name.replace("embeddings.patch_embeddings", "patch_embed.proj")
        for old, part in (
            ("layer.", "blocks."),
            ("attention.o_proj", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("gate_proj", "w1"),
            ("up_proj", "w2" if any("gate_proj" in each for each in state) else "fc1"),
            ("down_proj", "w3" if any("gate_proj" in each for each in state) else "fc2"),
        ):
            new = new.replace(old, part)
        found[names.get(name, new)] = tensor
    for n in range(2):
        parts = [found.pop(f"blocks.{n}.attention.{part}_proj.weight") for part in "qkv"]
        found[f"blocks.{n}.attn.qkv.weight"] = torch.cat(parts)
        query, value = (found.pop(f"blocks.{n}.attention.{part}_proj.bias") for part in "qv")
        nothing = torch.full_like(query, torch.nan)
        found[f"blocks.{n}.attn.qkv.bias"] = torch.cat([query, nothing, value])
        found[f"blocks.{n}.attn.qkv.bias_mask"] = torch.cat([query, nothing, value])
    found["local_cls_norm.weight"] = torch.zeros(128)
    return found


TINY = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "image_size": 32,
    "patch_size": 8,
}

GATED = {"use_gated_mlp": True, "hidden_act": "silu"}


def of_transformers(kind: str, **settings: Any) -> Any:
    library = pytest.importorskip("transformers")
    config = getattr(library, f"{kind}Config")(**TINY | settings)
    return drawn(getattr(library, f"{kind}Model")(config))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [32, 48])
def test_dinov3_is_read(gated: bool, size: int, tmp_path: Path) -> None:
    net = of_transformers("DINOv3ViT", num_register_tokens=4, **GATED if gated else {})
    found = opened(tmp_path, dinov3_in_original_names(net.state_dict()))
    assert found.facts.format == "dinov3"
    assert_same(found, net(images(size)).last_hidden_state[:, 0], size)


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {}),
    ("Dinov2", {}),
    ("Dinov2", {"use_swiglu_ffn": True}),
    ("Dinov2WithRegisters", {}),
    ("DINOv3ViT", {"num_register_tokens": 4, **GATED}),
    ("Beit", {"use_relative_position_bias": True}),
    ("Beit", {"use_shared_relative_position_bias": True, "use_mean_pooling": False}),
]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_folder_of_transformers_is_read(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    net = of_transformers(kind, **settings)
    net.save_pretrained(tmp_path)
    prepared = {
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "size": {"height": 40},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    found = open_checkpoint(tmp_path)
    assert (found.facts.format, found.facts.image_size) == ("transformers", 40)
    assert found.facts.normalisation is not None
    assert found.facts.normalisation.std == (0.4, 0.5, 0.6)
    with torch.no_grad():
        output = net(images())
    pooled = kind == "Beit" and settings.get("use_mean_pooling", True)
    assert_same(found, output.pooler_output if pooled else output.last_hidden_state[:, 0])


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_positions_are_interpolated_as_by_transformers(kind: str, tmp_path: Path) -> None:
    net = of_transformers(kind)
    net.save_pretrained(tmp_path)
    assert_same(open_checkpoint(tmp_path), net(images(48)).last_hidden_state[:, 0], 48)


def test_a_file_of_transformers_without_its_folder_is_read(tmp_path: Path) -> None:
    net = of_transformers("Dinov2")
    state = {f"dinov2.{name}": t for name, t in net.state_dict().items()}
    with torch.no_grad():
        expected = net(images()).last_hidden_state[:, 0]
    safetensors.torch.save_file(
        state | {"classifier.weight": torch.zeros(4, 4)}, tmp_path / "alone.safetensors"
    )
    assert_same(open_checkpoint(tmp_path / "alone.safetensors"), expected)


def test_another_activation_is_refused(tmp_path: Path) -> None:
    of_transformers("ViT", hidden_act="relu").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has the activation 'relu'; only gelu is supported"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("encoder.layer.0.attention.attention.key.weight"),
        lambda state: state.update(
            {"encoder.layer.1.attention.attention.key.weight": torch.zeros(2, 3)}
        ),
    ],
    ids=["missing", "of another shape"],
)
def test_weights_that_do_not_belong_together_are_a_line(spoil: Any, tmp_path: Path) -> None:
    of_transformers("ViT").save_pretrained(tmp_path)  # in memory it has other names than in files
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    spoil(state)
    with pytest.raises(
        UserError, match="names of the format transformers, but its weights do not"
    ):
        opened(tmp_path, state)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    of_transformers("ViT").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"'config.json' next to .* cannot be read"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("quick", [False, True])
def test_the_image_tower_of_clip_is_read(quick: bool, tmp_path: Path) -> None:
    library = pytest.importorskip("open_clip.model")
    net = drawn(
        library.CLIP(
            32,
            {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "head_width": 64},
            {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 2, "layers": 1},
            quick_gelu=quick,
        )
    )
    with pytest.raises(
        UserError, match="GELU or OpenAI's QuickGELU; set it: --format open_clip:g"
    ):
        opened(tmp_path, {"state_dict": net.state_dict()})
    found = opened(
        tmp_path, {"state_dict": net.state_dict()}, f"open_clip:{'quick_' if quick else ''}gelu"
    )
    assert found.backbone.feature_dim == 32
    assert_same(found, net.encode_image(images()))


def test_a_width_without_usual_heads_is_asked_for(tmp_path: Path) -> None:
    net = of_timm(init_values=1.0, embed_dim=96)
    with pytest.raises(UserError, match="of width 96 has; set it"):
        opened(tmp_path, net.state_dict())
