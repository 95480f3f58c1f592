"""Round trips: what is written loads elsewhere, or here again, and computes the same features."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo.cli.main import main
from ssl_zoo.errors import UserError
from ssl_zoo.weights import export
from ssl_zoo.weights.export import write
from ssl_zoo.weights.export_kinds import ExportKind
from ssl_zoo.weights.open import Opened, open_checkpoint
from tests.formats import files
from tests.formats.files import features, images


@pytest.fixture(scope="module")
def swav(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A ResNet-18 of a foreign file, whose features are known."""
    return open_checkpoint(
        files.write(tmp_path_factory.mktemp("in"), "swav_800ep_pretrain.pth.tar")
    )


@pytest.fixture(scope="module")
def vit() -> Opened:
    settings = "image_size: 32, patch_size: 8, width: 32, depth: 2, heads: 2"
    return open_checkpoint("untrained:{name: vit, " + settings + "}")


def compute(network: Any, size: int | None = None) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(images()[:, :, :size, :size])
    return found


def test_our_format_keeps_weights_and_facts(swav: Opened, tmp_path: Path) -> None:
    how = write(swav, tmp_path / "x.safetensors", "safetensors")
    again = open_checkpoint(tmp_path / "x.safetensors")
    assert how == f"ssl_zoo.load('{tmp_path / 'x.safetensors'}')"
    assert (again.digest, again.facts) == (swav.digest, swav.facts)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_torchvisions_names_load_into_torchvision(name: str, swav: Opened, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    how = write(swav, tmp_path / name, "torchvision")
    net = resnet18()
    net.fc = nn.Identity()
    net.load_state_dict(load_state(tmp_path / name))
    assert how == "torchvision.models.resnet18() with fc = nn.Identity()"
    assert torch.equal(compute(net.eval()), features())


@pytest.mark.parametrize(("stem", "padding"), [("cifar", 1), ("cifar_padded", 2)])
def test_timms_line_names_the_layers_of_a_small_stem(
    stem: str, padding: int, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    opened = open_checkpoint(f"untrained:{{name: resnet18, stem: {stem}}}")
    how = write(opened, tmp_path / "x.pth", "timm")
    net = timm.create_model("resnet18", num_classes=0)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
    net.maxpool = nn.Identity()
    net.load_state_dict(load_state(tmp_path / "x.pth"))
    assert how == (
        "timm.create_model('resnet18', num_classes=0) with conv1 = nn.Conv2d(3, 64, 3, "
        f"padding={padding}, bias=False) and maxpool = nn.Identity(), then load_state_dict"
    )
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), opened.backbone(images))


def hub_load(*arguments: str) -> Any:
    load: Any = torch.hub.load
    return load(*arguments, source="local")


def load_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    found: dict[str, Tensor] = torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_a_transformer_comes_back_from_either_naming(
    kind: ExportKind, vit: Opened, tmp_path: Path
) -> None:
    write(vit, tmp_path / "x.pth", kind)
    again = open_checkpoint(tmp_path / "x.pth", format={"name": kind, "heads": 2})
    assert again.facts.format == kind
    assert torch.equal(compute(again.backbone, 32), compute(vit.backbone, 32))


def test_timms_names_load_into_timm(swav: Opened, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    how = write(swav, tmp_path / "x.pth", "timm")
    assert how.startswith("timm.create_model('resnet18', num_classes=0, checkpoint_path=")
    net = timm.create_model("resnet18", num_classes=0, checkpoint_path=tmp_path / "x.pth").eval()
    torch.testing.assert_close(compute(net), features())


def test_timms_transformer_takes_what_is_written_for_it(vit: Opened, tmp_path: Path) -> None:
    vits = pytest.importorskip("timm.models.vision_transformer")
    write(vit, tmp_path / "x.safetensors", "timm")
    net = vits.VisionTransformer(32, 8, num_classes=0, embed_dim=32, depth=2, num_heads=2).eval()
    net.load_state_dict(load_state(tmp_path / "x.safetensors"))
    torch.testing.assert_close(compute(net, 32), compute(vit.backbone, 32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_a_network_of_neither_library_is_refused(kind: ExportKind, tmp_path: Path) -> None:
    opened = open_checkpoint("untrained:tiny_resnet")
    with pytest.raises(UserError, match=f"'tiny_resnet' .*{kind} .* --as safetensors"):
        write(opened, tmp_path / "x.pth", kind)


@pytest.mark.parametrize("network", ["swav", "tiny"])
def test_a_hub_folder_is_loaded_by_torch_hub(network: str, swav: Opened, tmp_path: Path) -> None:
    opened = swav if network == "swav" else open_checkpoint("untrained:tiny_resnet")
    write(opened, tmp_path / "out", "hub")
    found = hub_load(str(tmp_path / "out"), "backbone")
    assert torch.equal(compute(found), compute(opened.backbone))
    text = (tmp_path / "out" / "hubconf.py").read_text()
    assert ("ssl_zoo" in text) == (network == "tiny")


def test_a_hub_folder_tells_how_images_are_normalised(swav: Opened, tmp_path: Path) -> None:
    write(swav, tmp_path / "out", "hub")
    told = json.loads((tmp_path / "out" / export.DESCRIPTION).read_text())
    assert (told["image_size"], told["std"]) == (224, [0.228, 0.224, 0.225])


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_the_code_of_a_hub_folder_is_the_same_for_every_network(stem: str, tmp_path: Path) -> None:
    codes = set()
    for depth in (18, 34):
        opened = open_checkpoint(f"untrained:{{name: resnet{depth}, stem: {stem}}}")
        write(opened, tmp_path / str(depth), "hub")
        codes.add((tmp_path / str(depth) / "hubconf.py").read_text())
    assert len(codes) == 1


def test_a_folder_of_something_else_is_left_alone(swav: Opened, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="contains other files"):
        write(swav, tmp_path, "hub")


def test_the_repository_is_a_hub_itself() -> None:
    root = Path(__file__).parents[2]
    found = hub_load(str(root), "backbone", "untrained:tiny_resnet")
    assert compute(found).shape == (2, found.feature_dim)
    assert "swav_tiny_resnet_digits_affine_30ep" in hub_load(str(root), "cards")


def test_onnx_names_what_it_needs(
    swav: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PACKAGES", ("no_onnx", "no_onnxscript"))
    with pytest.raises(
        UserError, match=r"needs no_onnx and no_onnxscript; install: pip .*ssl-zoo\[onnx\]"
    ):
        write(swav, tmp_path / "x.onnx", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["swav", "vit"])
def test_an_onnx_graph_computes_the_features_for_any_batch(
    network: str, swav: Opened, vit: Opened, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    opened, size = (swav, 224) if network == "swav" else (vit, 32)
    write(opened, tmp_path / "x.onnx", "onnx")
    batch = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    (found,) = runtime.InferenceSession(tmp_path / "x.onnx").run(None, {"images": batch.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(found), opened.backbone(batch), rtol=1e-4, atol=1e-4
        )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ssl-zoo", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_foreign_file_goes_in_and_out_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = files.write(tmp_path, "barlow_twins.pth")
    ours, theirs = tmp_path / "in" / "ours.safetensors", tmp_path / "theirs.pth"
    assert run(monkeypatch, "import", source, "-o", ours) == 0
    assert run(monkeypatch, "export", ours, "-o", theirs, "--as", "torchvision") == 0
    assert capsys.readouterr().out.splitlines() == [
        str(ours),
        f"{theirs}: torchvision.models.resnet18() with fc = nn.Identity()",
    ]
    assert open_checkpoint(theirs).digest == open_checkpoint(source).digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "untrained:pixels", "-o", "x.safetensors"), "in the format of ssl-zoo"),
        (("import", "resnet18.pth", "-o", "x.pth"), "'x.pth' must end in .safetensors"),
        (("import", "none.pth", "-o", "x.safetensors"), "there is no checkpoint 'none.pth'"),
        (("export", "untrained:pixels", "-o", "x", "--as", "pickle"), "'pickle' is not one of"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    files.write(tmp_path, "resnet18.pth", files.trunk())
    assert run(monkeypatch, *arguments) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("ssl-zoo: ")
    assert message in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["resnet18.pth"]
