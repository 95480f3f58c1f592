"""Files of other projects: each is recognised by its names and computes its network's features."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from ssl_zoo.data.base import Normalisation
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, UNNORMALISED, ForeignFile
from ssl_zoo.formats.reading import state_dicts
from ssl_zoo.weights.open import Opened, open_checkpoint
from tests.formats.files import (
    FILES,
    LIGHTNING,
    MOCO,
    STUDENT,
    SWAV,
    TEACHER,
    features,
    head,
    images,
    network,
    numbered,
    other,
    parallel,
    trunk,
    write,
)


def opened(folder: Path, name: str, content: Any = None, format: Any = None) -> Opened:
    return open_checkpoint(write(folder, name, content), format=format)


def compute(checkpoint: Opened) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = checkpoint.backbone(images())
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognised_and_computes_the_features_of_its_source(
    name: str, tmp_path: Path
) -> None:
    format_name, method, _ = FILES[name]
    found = opened(tmp_path, name)
    assert (found.facts.format, found.facts.method) == (format_name, method)
    assert torch.equal(compute(found), features())


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_of_resnets_is_tried_here(name: str) -> None:
    assert name in {
        "timm",
        "prefixed",
        "mae",
        *("beit", "dinov2", "dinov3", "open_clip", "transformers"),  # test_released.py
        *(format_name for format_name, _, _ in FILES.values()),
    }


@pytest.mark.parametrize("name", FILES)
def test_no_other_format_recognises_it(name: str) -> None:
    file = ForeignFile(name, state_dicts(FILES[name][2]))
    assert [each for each in FORMATS if FORMATS.build(each).recognises(file)] == [FILES[name][0]]


def test_what_is_read_and_what_is_ignored_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write(tmp_path, "moco_v2_800ep.pth.tar")
    open_checkpoint(path)
    for fact in (
        f"'{path}' is read as moco_v2: 120 weights of backbone resnet18 from its 'state_dict'",
        "ignored: the classifier (4), the momentum network (120), the queue (1), its position (1)",
        "images of 224 pixels, normalised by mean 0.485 0.456 0.406 and std 0.229 0.224 0.225",
    ):
        assert fact in caplog.text


def test_the_deviation_of_swav_is_kept(tmp_path: Path) -> None:
    facts = opened(tmp_path, "swav_800ep_pretrain.pth.tar").facts
    expected = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.228, 0.224, 0.225))
    assert facts.normalisation == expected
    assert facts.image_size == 224


@pytest.mark.parametrize("name", ["simclr_encoder.tar", "resnet18-f37072fd.pth"])
def test_simclr_sees_pixels_as_they_are(name: str, tmp_path: Path) -> None:
    mean, std = UNNORMALISED
    facts = opened(tmp_path, name, format="simclr").facts
    assert facts.normalisation == Normalisation(mean=mean, std=std)


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("moco_v2:encoder_k", {"state_dict": parallel(MOCO)}),
        ("dino:student", {"teacher": TEACHER, "student": STUDENT}),
    ],
)
def test_the_other_network_can_be_asked_for(format: Any, content: Any, tmp_path: Path) -> None:
    found = opened(tmp_path, "x.pth", content, format)
    first = found.backbone.get_parameter("trunk.conv1.weight")
    assert torch.equal(first, network().get_parameter("conv1.weight") + 1)


def test_a_file_of_an_unsupported_architecture_lists_its_names_and_the_way_out(
    tmp_path: Path,
) -> None:
    content = {"epoch": 3, "weights": {f"net.{n}.weight": torch.zeros(1) for n in range(7)}}
    with pytest.raises(UserError) as raised:
        opened(tmp_path, "x.pth", content)
    for fact in (
        "is not recognised",
        "weights.net.0.weight, weights.net.1.weight, weights.net.2.weight, weights.net.3.weight, "
        "weights.net.4.weight and 2 more",
        "its architecture is not supported",
        "score it: ssl_zoo.evaluate(MODEL, ...)",
    ):
        assert fact in str(raised.value)
    assert "--format" not in str(raised.value)


def test_another_architecture_is_named_as_such_with_a_format(tmp_path: Path) -> None:
    content = {f"features.{n}.weight": torch.zeros(1) for n in range(7)}
    with pytest.raises(UserError, match="the architecture of the network in .* is not supported"):
        opened(tmp_path, "x.pth", content, "torchvision")


@pytest.mark.parametrize(
    "content",
    [
        {"net": trunk(), "epoch": 3},
        {"net": trunk("net.")},
        trunk("net.encoder.") | head("head.", 0),
        {"state_dict": trunk("model._orig_mod.")},
        {"model": parallel(trunk("_orig_mod."))},
        {"model": trunk("_orig_mod.module.")},
        {"state_dict": numbered("")},
        {"state_dict": numbered("net.") | head("fc.", 0)},
        {"state_dict": trunk() | head("head.", 0, 2)},
        {"state_dict": trunk("net."), "ema": other("net.")},
    ],
)
def test_the_only_network_is_found_under_any_prefix(
    content: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert torch.equal(compute(opened(tmp_path, "x.pth", content)), features())
    assert "120 weights of backbone resnet18" in caplog.text


def test_several_networks_are_listed_as_format_takes_them(tmp_path: Path) -> None:
    content = {"s": other("student."), "t": trunk("teacher.")}
    with pytest.raises(UserError, match="has 2 networks; choose one with --format (.*)") as raised:
        opened(tmp_path, "x.pth", content)
    assert str(raised.value).endswith("prefixed:s.student. or prefixed:t.teacher.")
    found = opened(tmp_path, "x.pth", content, "prefixed:t.teacher.")
    assert torch.equal(compute(found), features())


@pytest.mark.parametrize("prefix", ["net.", "net", "net.net.", "module.net.", "_orig_mod.net."])
def test_a_key_of_the_file_may_be_named_like_the_prefix(prefix: str, tmp_path: Path) -> None:
    content = {"net": parallel(trunk("_orig_mod.net."))}
    found = opened(tmp_path, "x.pth", content, f"prefixed:{prefix}")
    assert torch.equal(compute(found), features())


def test_a_prefix_above_the_network_leads_to_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no network under 'net\.'; use prefixed:net\.encoder\."):
        opened(tmp_path, "x.pth", trunk("net.encoder."), "prefixed:net.")


def test_a_network_of_lightly_may_have_no_attribute(tmp_path: Path) -> None:
    content = {"state_dict": numbered("")}
    found = opened(tmp_path, "x.ckpt", content, {"name": "lightly", "network": ""})
    assert (found.facts.format, compute(found).tolist()) == ("lightly", features().tolist())


def test_a_file_of_two_formats_is_not_guessed(tmp_path: Path) -> None:
    content = {"state_dict": MOCO, "teacher": TEACHER, "student": STUDENT}
    with pytest.raises(UserError, match="may be dino or moco_v2; .*--format"):
        opened(tmp_path, "x.pth", content)
    assert torch.equal(compute(opened(tmp_path, "x.pth", content, "dino")), features())


def test_missing_and_unexpected_weights_are_listed(tmp_path: Path) -> None:
    content = dict(SWAV)
    for n in range(1, 3):
        del content[f"layer4.1.conv{n}.weight"], content[f"layer4.1.bn{n}.weight"]
    del content["bn1.weight"], content["bn1.bias"]
    content["layer1.0.gate"] = torch.zeros(1)
    with pytest.raises(UserError) as raised:
        opened(tmp_path, "x.pth", content, "swav")
    assert (
        "missing: trunk.bn1.bias, trunk.bn1.weight, trunk.layer4.1.bn1.weight, "
        "trunk.layer4.1.bn2.weight, trunk.layer4.1.conv1.weight and 1 more; unexpected: "
        "trunk.layer1.0.gate)"
    ) in str(raised.value)


def test_a_format_that_does_not_match_names_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no weights under 'encoder_q\.', .* bn1\.bias"):
        opened(tmp_path, "x.pth", dict(sorted(trunk().items())), "moco_v2")


def test_a_network_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    content = {n: t for n, t in trunk().items() if not n.startswith("layer2.1")}
    with pytest.raises(
        UserError, match="2-1-2-2 basic blocks, 64 channels and a first kernel of 7"
    ):
        opened(tmp_path, "x.pth", content)


def test_an_unknown_format_names_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format 'mocov3'. Did you mean 'moco_v3'"):
        opened(tmp_path, "x.pth", trunk(), "mocov3")


def test_step_counters_may_be_missing(tmp_path: Path) -> None:
    content = {n: t for n, t in trunk().items() if not n.endswith("num_batches_tracked")}
    assert torch.equal(compute(opened(tmp_path, "x.pth", content)), features())


def test_half_precision_is_widened(tmp_path: Path) -> None:
    content = {n: t.half() if t.is_floating_point() else t for n, t in trunk().items()}
    found = opened(tmp_path, "x.pth", content)
    assert {p.dtype for p in found.backbone.parameters()} == {torch.float32}


def test_a_prefix_and_a_path_can_be_set(tmp_path: Path) -> None:
    content = {"net": {"ema": other("a.b."), "now": trunk("a.b.")}}
    format = {"name": "prefixed", "prefix": "a.b.", "place": "net.now", "std": [1, 1, 1]}
    found = opened(tmp_path, "x.pth", content, format)
    assert torch.equal(compute(found), features())
    assert found.facts.normalisation is not None
    assert found.facts.normalisation.std == (1.0, 1.0, 1.0)
    with pytest.raises(UserError, match=r"no weights at 'net'; .*: 'net.ema', 'net.now'"):
        opened(tmp_path, "x.pth", content, {**format, "place": "net"})


def test_a_prefix_alone_is_short(tmp_path: Path) -> None:
    found = opened(tmp_path, "x.pth", {"model": trunk("a.b.")}, "prefixed:a.b.")
    assert torch.equal(compute(found), features())


WRAPPED = {"epoch": 3, "state_dict": parallel(trunk("backbone.") | other("head."))}


@pytest.mark.parametrize(
    "prefix",
    [
        "backbone.",
        "module.backbone.",
        "state_dict.backbone.",
        "state_dict.module.backbone.",
    ],
)
def test_a_prefix_may_be_as_the_file_has_it_or_as_messages_tell_it(
    prefix: str, tmp_path: Path
) -> None:
    found = opened(tmp_path, "x.pth", WRAPPED, f"prefixed:{prefix}")
    assert torch.equal(compute(found), features())


def test_a_prefix_may_lead_to_a_place_that_is_not_the_usual_one(tmp_path: Path) -> None:
    content = {"state_dict": other("net."), "ema": {"state_dict": parallel(trunk("net."))}}
    for prefix in ("ema.state_dict.net.", "ema.state_dict.module.net."):
        found = opened(tmp_path, "x.pth", content, f"prefixed:{prefix}")
        assert torch.equal(compute(found), features())


def test_a_prefix_that_nothing_has_is_refused(tmp_path: Path) -> None:
    for prefix in ("encoder.", "module.encoder.", "state_dict.encoder."):
        with pytest.raises(UserError, match=r"has no weights under 'encoder\.'.* backbone\.conv1"):
            opened(tmp_path, "x.pth", WRAPPED, f"prefixed:{prefix}")


def small(padding: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns a ResNet for small images, and its features."""
    from torch import nn
    from torchvision.models import resnet18

    torch.manual_seed(2)
    net = resnet18(num_classes=7).eval()
    net.conv1 = nn.Conv2d(3, 64, 3, padding=padding, bias=False)
    net.maxpool, net.fc = nn.Identity(), nn.Identity()
    with torch.no_grad():
        return net.state_dict(), net(images()[:, :, :32, :32])


@pytest.mark.parametrize(("name", "padding"), [("torchvision", 1), ("solo_learn", 2)])
def test_the_padding_of_small_stems_is_the_formats_own(
    name: str, padding: int, tmp_path: Path
) -> None:
    state, expected = small(padding)
    if name == "solo_learn":
        named = {f"backbone.{key}": t for key, t in state.items()} | head("classifier.", 0)
        state = {**LIGHTNING, "state_dict": named}  # type: ignore[dict-item]
    found = opened(tmp_path, "x.ckpt", state)
    with torch.no_grad():
        assert torch.equal(found.backbone(images()[:, :, :32, :32]), expected)
    assert found.facts.image_size == 32
    assert found.facts.normalisation is None


def test_a_momentum_copy_is_not_what_is_read(tmp_path: Path) -> None:
    state = other("momentum_encoder.") | trunk("base_encoder.") | head("base_encoder.fc.", 0)
    assert torch.equal(compute(opened(tmp_path, "x.pth", {"state_dict": state})), features())


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        ("layer1.0.conv1.weight", r"the architecture .*\(missing: trunk.layer1.0.conv1"),
        (
            "layer3.1.bn2.weight",
            r"the architecture .*\(missing: trunk.layer3.1.bn2.weight",
        ),
        ("conv1.weight", "the ResNet in '.*' lacks conv1.weight"),
    ],
)
def test_weights_that_a_resnet_lacks_are_named(lost: str, complaint: str, tmp_path: Path) -> None:
    weights = torchvision.models.resnet18().state_dict()
    del weights[lost]
    torch.save(weights, tmp_path / "holed.pth")
    with pytest.raises(UserError, match=complaint):
        open_checkpoint(tmp_path / "holed.pth")


def test_a_second_network_in_a_file_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = torchvision.models.resnet18().state_dict()
    averaged = {name: tensor.clone() for name, tensor in weights.items()}
    torch.save({"model": weights, "model_ema": averaged}, tmp_path / "two.pth")
    with caplog.at_level(logging.INFO):
        open_checkpoint(tmp_path / "two.pth")
    assert "ignored: the classifier (2), 'model_ema' (122);" in caplog.text
