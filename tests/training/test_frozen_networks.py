"""Frozen networks of a run: their content defines it, they are checked at its start, and stay as they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_zoo.config import dump_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.method import Method
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.frozen_networks import open_frozen
from ssl_zoo.training.train import Trainer, train
from ssl_zoo.weights.export import write
from ssl_zoo.weights.open import open_checkpoint
from tests.small import fast_config

RANDOM = "untrained:{name: conv_tokenizer, n_codes: 16, patch_size: 4, width: 8, blocks: 1}"
SHORT = ("epochs=1", "global_batch_size=256")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a tokenizer with random weights."""
    path = tmp_path_factory.mktemp("codes") / "codes.safetensors"
    write(open_checkpoint(RANDOM), path, "safetensors")
    return path


def config(weights: Path | str, *overrides: str) -> RunConfig:
    return fast_config("beit", *SHORT, f"method.tokenizer='{weights}'", *overrides)


def started(config: RunConfig, folder: Path) -> Method:
    return Trainer(config, RunFolder(folder), torch.device("cpu")).method


def copied(method: Method) -> dict[str, Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in method.run.networks["tokenizer"].state_dict().items()
    }


def test_the_content_of_a_network_defines_a_run_and_not_its_place(
    file: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(file.read_bytes())
    write(open_checkpoint(RANDOM, seed=1), tmp_path / "other.safetensors", "safetensors")
    assert config(moved).digest() == config(file).digest()
    assert config(tmp_path / "other.safetensors").digest() != config(file).digest()


def test_a_network_that_changed_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    path.write_bytes(file.read_bytes())
    run = config(path)
    write(open_checkpoint(RANDOM, seed=1), path, "safetensors")
    with pytest.raises(UserError, match=r"^method\.tokenizer: '.*codes\.safetensors' has changed"):
        started(run, tmp_path / "run")


def test_a_network_that_is_missing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.tokenizer: there are no weights 'nowhere'"):
        config("nowhere")


def test_what_names_no_weights_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^method\.tokenizer: 5 does not name weights; pass a run"
    ):
        fast_config("beit", *SHORT, "method.tokenizer=5")


def test_another_weights_override_replaces_the_digest(file: Path, tmp_path: Path) -> None:
    other, written = tmp_path / "other.safetensors", tmp_path / "run.yaml"
    write(open_checkpoint(RANDOM, seed=1), other, "safetensors")
    written.write_text(dump_yaml(config(file)))
    found = run_config(file=written, overrides=[f"method.tokenizer.weights={other}"])
    assert found.digest() == config(other).digest()


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'untrained:tiny_resnet' is a TinyResNet, which gives patches no"
    ):
        started(config("untrained:tiny_resnet"), tmp_path)


def test_a_run_without_its_network_is_refused(tmp_path: Path) -> None:
    run = fast_config("beit", *SHORT, "method.tokenizer=null")
    with pytest.raises(UserError, match=r"method\.tokenizer is not set; train a tokenizer first"):
        started(run, tmp_path)


def test_a_network_is_frozen_and_in_evaluation_mode(file: Path) -> None:
    network = open_frozen(config(file).method, torch.device("cpu"))["tokenizer"]
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_opening_a_network_draws_no_random_numbers(file: Path) -> None:
    torch.manual_seed(0)
    open_frozen(config(file).method, torch.device("cpu"))
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(3))


def test_a_network_is_no_part_of_the_method(file: Path, tmp_path: Path) -> None:
    method = started(config(file), tmp_path)
    own = {id(parameter) for parameter in method.parameters()}
    assert own.isdisjoint(id(p) for p in method.run.networks["tokenizer"].parameters())
    assert not any("tokenizer" in name for name in method.state_dict())
    grouped = {id(p) for group in method.param_groups() for p in group["params"]}
    assert grouped == {id(p) for p in method.parameters() if p.requires_grad}


@pytest.mark.slow
def test_training_leaves_a_network_alone_and_resumes_with_it(file: Path, tmp_path: Path) -> None:
    whole = train(config(file), tmp_path / "whole", bar=False)
    trainer = Trainer(config(file), RunFolder(tmp_path / "halves"), torch.device("cpu"))
    trainer.folder.begin(config(file))
    before = copied(trainer.method)
    for _ in zip(range(2), trainer.losses(), strict=False):
        pass
    trainer.state.save(wait=True)
    after = copied(trainer.method)
    assert all(torch.equal(before[name], after[name]) for name in before)
    halves = train(config(file), tmp_path / "halves", bar=False)
    ends = [
        checkpoint.load_exported(checkpoint.found(run / "checkpoints")[0])[1]
        for run in (whole, halves)
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
