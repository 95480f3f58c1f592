"""Checkpoints of every kind open to the same weights; foreign and damaged files are refused."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ssl_zoo.augmentations.evaluation import EvaluationTransform
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.view import ViewSpec
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.weights.open import (
    METADATA,
    export,
    load,
    newest_checkpoint,
    open_checkpoint,
    weights_digest,
)
from tests.formats import files
from tests.small import tiny_backbone

FACTS = {"backbone": {"name": "tiny_resnet", "widths": [8, 16], "stem_stride": 4}}


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "small.safetensors"
    export(open_checkpoint(small_run), path)
    return path


def write(path: Path, weights: dict[str, torch.Tensor], facts: Any = FACTS) -> Path:
    text = facts if isinstance(facts, str) else json.dumps(facts)
    safetensors.torch.save_file(weights, path, metadata={METADATA: text})
    return path


def test_a_run_a_checkpoint_a_file_and_a_card_hold_the_same_weights(
    small_run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_zoo.weights.open.card_files", lambda: {"small_card": exported})
    folder = newest_checkpoint(RunFolder(small_run))
    digests = {
        open_checkpoint(what).digest for what in (small_run, folder, exported, "small_card")
    }
    assert len(digests) == 1


def test_a_backbone_is_loaded_in_evaluation_mode_and_computes_features(small_run: Path) -> None:
    backbone = load(small_run)
    assert not backbone.training
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.feature_dim)


def test_a_loaded_backbone_sees_images_as_an_evaluation_does(small_run: Path) -> None:
    backbone = load(small_run)
    data = DATASETS.build(open_checkpoint(small_run).facts.data, split="test")
    images = data.load(torch.arange(4))
    assert isinstance(images, torch.Tensor)
    with torch.inference_mode():
        found = backbone(backbone.transform(images))
    view = ViewSpec(backbone.image_size, backbone.image_size, "bicubic")
    expected = extract(backbone, data, view, batch_size=4).values[:4]
    assert found.shape == (4, backbone.feature_dim)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_transform_of_photographs_has_a_margin_and_the_files_own_mean(tmp_path: Path) -> None:
    backbone = load(files.write(tmp_path, "swav_800ep_pretrain.pth.tar"))
    transform = backbone.transform
    assert isinstance(transform, EvaluationTransform)
    assert (backbone.image_size, transform.resize) == (224, 256)
    assert transform.std == (0.228, 0.224, 0.225)


def test_an_exported_file_knows_where_it_comes_from(exported: Path) -> None:
    facts = open_checkpoint(exported).facts
    assert (facts.method, facts.image_size, facts.step) == ("simclr", 16, 5)
    assert (facts.data or {})["name"] == "digits_affine"
    assert (facts.config or {})["backbone"] == facts.backbone


def test_an_earlier_checkpoint_of_a_run_can_be_opened(small_run: Path) -> None:
    latest, earlier = checkpoint.found(small_run / "checkpoints")
    steps = [open_checkpoint(path).facts.step or 0 for path in (earlier, latest)]
    assert steps[0] < steps[1]
    assert open_checkpoint(earlier).digest != open_checkpoint(latest).digest


def test_a_digest_changes_with_any_weight() -> None:
    weights = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    changed = {"a": torch.zeros(3), "b": torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2**-23]])}
    assert weights_digest(weights) != weights_digest(changed)
    assert weights_digest(dict(reversed(weights.items()))) == weights_digest(weights)


def test_untrained_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = open_checkpoint("untrained:tiny_resnet", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert open_checkpoint("untrained:tiny_resnet", seed=1).digest == first.digest
    assert open_checkpoint("untrained:tiny_resnet", seed=2).digest != first.digest


def test_untrained_takes_settings_too() -> None:
    what = "untrained:{name: tiny_resnet, widths: [4]}"
    assert open_checkpoint(what).backbone.feature_dim == 4
    assert open_checkpoint("untrained:pixels").facts.backbone["image_size"] == 32


def test_another_architecture_lists_missing_unexpected_and_misshapen_weights(
    tmp_path: Path,
) -> None:
    weights = tiny_backbone().state_dict()
    weights["fc.weight"] = torch.zeros(1)
    weights["stem.0.weight"] = torch.zeros(9, 3, 3, 3)
    del weights["stem.1.bias"]
    with pytest.raises(UserError) as raised:
        load(write(tmp_path / "other.safetensors", weights))
    assert "architecture of its backbone 'tiny_resnet'" in str(raised.value)
    assert "missing: stem.1.bias; unexpected: fc.weight; of another shape: stem.0.weight" in str(
        raised.value
    )


def test_a_cut_off_file_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(exported.read_bytes()[:-10])
    with pytest.raises(UserError, match="'.*cut.safetensors' is not a complete safetensors file"):
        load(path)


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(
        UserError, match="format of .* is not recognised.*not supported.* are named a; build"
    ):
        load(path)


@pytest.mark.parametrize("facts", ["{", "[]", '{"backbone": 3}', '{"backbone": {}}'])
def test_a_file_that_does_not_say_what_it_holds_is_refused(facts: str, tmp_path: Path) -> None:
    path = write(tmp_path / "odd.safetensors", {"a": torch.zeros(1)}, facts)
    with pytest.raises(UserError, match="does not name its backbone"):
        load(path)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickled_code_never_runs(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    else:
        torch.save({"state_dict": Bomb(tmp_path / "exploded")}, path)
    with pytest.raises(UserError, match="asks for 'posix.mkdir' .* run code"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_a_header_of_128_bytes_is_not_taken_for_pickle(tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes((128).to_bytes(8, "little") + b"{" + b" " * 126 + b"}")
    with pytest.raises(UserError, match="no named weights"):
        load(path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    small_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    latest, earlier = checkpoint.found(run / "checkpoints")
    (latest / checkpoint.MODEL).write_bytes(b"")
    assert open_checkpoint(run).digest == open_checkpoint(earlier).digest
    assert f"(checksum differs); '{earlier.name}' is used instead" in caplog.text
    with pytest.raises(UserError, match="model.safetensors is cut off or changed"):
        open_checkpoint(latest)


def test_a_run_without_a_checkpoint_is_to_be_trained_first(
    small_run: Path, tmp_path: Path
) -> None:
    shutil.copy(small_run / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="no complete checkpoint; train it first"):
        load(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run folder nor a checkpoint"):
        load(tmp_path)


def test_an_unknown_card_names_the_near_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_zoo.weights.open.card_files", lambda: {"small_card": Path("x")})
    with pytest.raises(UserError, match=r"no checkpoint 'smal_card'. Did you mean 'small_card'\?"):
        load("smal_card")


def test_an_address_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(
        UserError, match="'https://127.0.0.1:9/x.safetensors' cannot be downloaded"
    ):
        load("https://127.0.0.1:9/x.safetensors")


def test_every_card_of_the_package_loads() -> None:
    for name in card_files():
        assert load(name).feature_dim > 0


def test_exporting_keeps_every_bit(tmp_path: Path) -> None:
    opened = open_checkpoint("untrained:tiny_resnet")
    export(opened, tmp_path / "deep" / "er.safetensors")
    again = open_checkpoint(tmp_path / "deep" / "er.safetensors")
    assert again.digest == opened.digest
    assert again.facts == opened.facts
