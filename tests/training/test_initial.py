"""Runs that start from weights: what is loaded, refused, said and frozen, and exact resume."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.backbones.first_layer import adapted
from ssl_zoo.backbones.tiny import TinyResNet
from ssl_zoo.errors import UserError
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.initial import InitialWeights, scaled_groups, short_form
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import Trainer, train
from ssl_zoo.weights.facts import WeightFacts
from tests.distributed import run_on_ranks
from tests.small import fast_config, tiny_backbone

CPU = torch.device("cpu")


def brief(*overrides: str) -> RunConfig:
    """SimCLR for ten steps in two epochs."""
    return fast_config("simclr", "epochs=2", "global_batch_size=256", *overrides)


def final_weights(run: Path) -> dict[str, Tensor]:
    path = checkpoint.found(run / "checkpoints")[0]
    return safetensors.torch.load_file(path / checkpoint.MODEL)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(brief("epochs=1"), tmp_path_factory.mktemp("source") / "run", bar=False)


def test_heads_are_those_of_a_run_from_scratch(source: Path, tmp_path: Path) -> None:
    scratch = Trainer(brief(), RunFolder(tmp_path / "a"), CPU).method.get_submodule("head")
    ours = Trainer(brief(f"init={source}"), RunFolder(tmp_path / "b"), CPU).method
    own = ours.get_submodule("head").state_dict()
    assert all(torch.equal(own[key], w) for key, w in scratch.state_dict().items())


def test_one_line_says_what_was_loaded_and_what_is_new(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Trainer(brief(f"init={source}"), RunFolder(tmp_path / "run"), CPU)
    line = next(text for text in caplog.messages if text.startswith("init:"))
    assert "weights of backbone tiny_resnet from 'run' (simclr, epoch 1)" in line
    assert "not used: 8 (head.layers" in line
    assert "new: 6 (head.layers.0.weight" in line


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        ("{name: tiny_resnet, widths: [8, 32], stem_stride: 4}", r"is \(16, 8, 3, 3\), not \(32"),
        ("{name: vit, patch_size: 4, width: 16, heads: 2}", "missing: trunk.class_token"),
    ],
)
def test_another_architecture_is_refused_before_anything_is_written(
    source: Path, tmp_path: Path, backbone: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem) as found:
        train(brief(f"init={source}", f"backbone={backbone}"), tmp_path / "run", bar=False)
    assert "set backbone='{name: tiny_resnet, stem_stride: 4, widths: [8, 16]}'" in str(
        found.value
    )
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_the_setting_of_a_default_backbone_is_its_name() -> None:
    assert short_form({"name": "resnet50", "stem": "imagenet"}) == "resnet50"


def test_other_settings_of_the_same_shape_are_a_warning(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = brief(f"init={source}", "backbone.stem_stride=2")
    Trainer(config, RunFolder(tmp_path / "run"), CPU)
    assert "(stem_stride 4 there, 2 here)" in caplog.text


@pytest.mark.parametrize(("old", "new"), [(3, 4), (3, 1), (4, 3), (3, 7)])
def test_the_first_layer_is_adapted_to_other_channels(
    old: int, new: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = TinyResNet.Config(widths=[8, 16], in_channels=old)
    weights = TinyResNet(settings).state_dict()
    facts = WeightFacts(backbone=settings.model_dump(mode="json"))
    other = TinyResNet.Config(widths=[8, 16], in_channels=new)
    backbone = TinyResNet(other)
    InitialWeights("x.pth", facts, weights, ()).fill(backbone, other)
    name = next(iter(weights))
    for key, tensor in backbone.state_dict().items():
        expected = adapted(weights[key], new) if key == name else weights[key]
        assert torch.equal(tensor, expected)
    rule = {
        4: "repeated in order, times 3/4",
        1: "its 3 channels are summed",
        3: "cut to the first 3, times 4/3",
    }
    assert f"takes {old} channels; its first layer {name} is adapted to {new}: " in caplog.text
    assert rule.get(new, "repeated in order, times 3/7") in caplog.text
    assert "other settings" not in caplog.text


def test_another_architecture_of_other_channels_is_refused() -> None:
    settings = TinyResNet.Config(widths=[8, 16])
    facts = WeightFacts(backbone=settings.model_dump(mode="json"))
    other = TinyResNet.Config(widths=[16, 16], in_channels=4)
    given = InitialWeights("x.pth", facts, TinyResNet(settings).state_dict(), ())
    with pytest.raises(UserError, match="do not fit backbone 'tiny_resnet'"):
        given.fill(TinyResNet(other), other)


def test_a_run_on_four_channels_starts_from_weights_of_three(source: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=values)
    data = f"{{name: arrays, file: {tmp_path / 'x.npz'}, images: x, test: train, channels: 4,"
    config = brief(
        f"init={source}",
        f"data={data} mean: [0.5, 0.5, 0.5, 0.5], std: [0.3, 0.3, 0.3, 0.3]}}",
        "global_batch_size=16",
        "backbone.in_channels=4",
        "augmentation.grayscale=0",
        "augmentation.color_jitter.saturation=0",
        "augmentation.color_jitter.hue=0",
    )
    trained = final_weights(train(config, tmp_path / "run", bar=False))
    shapes = [tuple(tensor.shape) for tensor in trained.values()]
    assert (8, 4, 3, 3) in shapes


def test_another_normalisation_is_a_warning(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = brief(f"init={source}", "data.mean=[0.5, 0.5, 0.5]")
    Trainer(config, RunFolder(tmp_path / "run"), CPU)
    assert "normalised by mean [0.149, 0.149, 0.149]" in caplog.text


def test_the_same_normalisation_is_no_warning(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Trainer(brief(f"init={source}"), RunFolder(tmp_path / "run"), CPU)
    assert "normalised" not in caplog.text


def test_weights_that_changed_since_they_were_named_are_refused(
    source: Path, tmp_path: Path
) -> None:
    config = brief(f"init={source}", "init.digest=0123456789ab")
    with pytest.raises(UserError, match="has changed: its digest is .* leave init.digest out"):
        train(config, tmp_path / "run", bar=False)


def test_a_changed_file_is_refused_at_resume(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    weights = {f"trunk.{key}": w for key, w in nn.Linear(1, 1).state_dict().items()}
    safetensors.torch.save_file(weights, file)
    before = brief(f"init={source}")
    run = train(before, tmp_path / "run", bar=False)
    with pytest.raises(UserError, match="made by another config .init.digest"):
        train(brief(f"init={file}"), run, bar=False)


def test_stopped_and_resumed_it_ends_the_same_without_the_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["init.freeze=5 steps", "init.layer_decay=0.5", "checkpoint.every=2 steps"]
    copy = tmp_path / "copy"
    config = brief(f"init={source}", *settings)
    whole = train(config, tmp_path / "whole", bar=False)
    after_step = SimCLR.after_step

    def stop_here(self: SimCLR, progress: Progress) -> None:
        after_step(self, progress)
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(SimCLR, "after_step", stop_here)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run", bar=False)
    source.rename(copy)
    try:
        again = RunFolder(tmp_path / "run").resume_config()
        train(again, tmp_path / "run", bar=False)
    finally:
        copy.rename(source)
    ours, expected = final_weights(tmp_path / "run"), final_weights(whole)
    assert [key for key in expected if not torch.equal(ours[key], expected[key])] == []


class Frozen:
    """A method's backbone before and after each step of a run."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self.trainer = Trainer(config, RunFolder(folder), CPU)
        self.backbone = self.trainer.method.backbone
        self.moved: list[set[str]] = []
        self.trainer.state.data.check(None, step=0)
        for batch in self.trainer._batches():
            before = {name: p.clone() for name, p in self.backbone.named_parameters()}
            self.trainer._take_step(batch, self.trainer._progress())
            own = self.backbone.named_parameters()
            self.moved.append({n.split(".")[0] for n, p in own if not torch.equal(p, before[n])})


def test_the_backbone_stays_while_it_is_frozen(source: Path, tmp_path: Path) -> None:
    found = Frozen(brief(f"init={source}", "init.freeze=4 steps"), tmp_path / "run")
    assert found.moved[:4] == [set()] * 4
    assert found.moved[4] == {"stem", "stages"}


def test_the_first_stages_stay_while_they_are_frozen(source: Path, tmp_path: Path) -> None:
    settings = [f"init={source}", "init.freeze=2 epochs", "init.freeze_layers=1"]
    found = Frozen(brief(*settings), tmp_path / "run")
    assert found.moved == [{"stages"}] * len(found.moved)


def test_running_statistics_follow_the_images_while_frozen(source: Path, tmp_path: Path) -> None:
    found = Frozen(brief(f"init={source}", "init.freeze=1 epoch"), tmp_path / "run")
    counter = found.backbone.get_buffer("stem.1.num_batches_tracked")
    steps = checkpoint.step_of(checkpoint.found(source / "checkpoints")[0])
    assert int(counter) == 2 * len(found.moved) // 2 + steps


def test_more_frozen_stages_than_there_are_is_an_error(source: Path, tmp_path: Path) -> None:
    config = brief(f"init={source}", "init.freeze=1 epoch", "init.freeze_layers=9")
    with pytest.raises(UserError, match="init.freeze_layers of 9 is above the 3 stages"):
        Trainer(config, RunFolder(tmp_path / "run"), CPU)


def test_groups_are_split_by_stage_and_keep_their_settings() -> None:
    backbone = tiny_backbone()
    head = nn.Linear(2, 2)
    groups: list[dict[str, Any]] = [
        {"params": [*backbone.parameters(), *head.parameters()], "lr_scale": 0.1},
    ]
    found = scaled_groups(groups, backbone, 0.5)
    assert [group["lr_scale"] for group in found] == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert {id(p) for p in found[0]["params"]} == {id(p) for p in head.parameters()}
    assert sum(len(group["params"]) for group in found) == len(groups[0]["params"])


def first_steps(overrides: list[str], folder: str) -> dict[str, Tensor]:
    """Returns the weights after four steps."""
    with distributed.process_group() as device:
        trainer = Trainer(brief(*overrides), RunFolder(folder), device)
        for batch, _ in zip(trainer._batches(), range(4), strict=False):
            trainer._take_step(batch, trainer._progress())
        return {key: w.clone() for key, w in trainer.method.state_dict().items()}


@pytest.mark.distributed
def test_two_ranks_start_and_train_as_one(source: Path, tmp_path: Path) -> None:
    overrides = [f"init={source}", "init.freeze=2 steps", "init.layer_decay=0.75"]
    overrides.append("optimizer.lr=0.01")
    alone = first_steps(overrides, str(tmp_path / "run"))
    for found in run_on_ranks(first_steps, 2, overrides, str(tmp_path / "run")):
        for key, weight in alone.items():
            torch.testing.assert_close(found[key], weight, rtol=1e-4, atol=1e-5)


def refusal(settings: list[str], folder: str) -> str:
    """Returns the error with which a run ends on this rank."""
    config = brief(*settings)
    with pytest.raises(UserError) as found:
        Trainer(config, RunFolder(folder), CPU)
    return str(found.value)


@pytest.mark.distributed
def test_an_error_of_rank_0_reaches_all_ranks(source: Path, tmp_path: Path) -> None:
    settings = [f"init={source}", "init.digest=0123456789ab"]
    messages = run_on_ranks(refusal, 2, settings, str(tmp_path / "run"))
    assert messages[0] == messages[1]
    assert "has changed" in messages[0]
