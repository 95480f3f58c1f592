"""The weights in a run's settings: how they are named, and their digest."""

import hashlib
from pathlib import Path

import pytest

from ssl_zoo.config import dump_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.runs.card_files import card_files
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.init_config import InitConfig


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    return path


def config(*overrides: str) -> RunConfig:
    return run_config("simclr", overrides=overrides)


def init_of(*overrides: str) -> InitConfig:
    found = config(*overrides).init
    assert found is not None
    return found


def test_a_run_without_weights_is_what_it_was_before_there_were_any() -> None:
    assert "init" not in config().identity()


def test_the_short_form_is_the_path(file: Path) -> None:
    assert init_of(f"init={file}").weights == str(file)


def test_settings_can_follow_the_short_form(file: Path) -> None:
    init = init_of(f"init={file}", "init.freeze=2 epochs")
    assert (init.weights, str(init.freeze)) == (str(file), "2 epochs")


def test_the_order_of_overrides_does_not_matter(file: Path) -> None:
    assert init_of("init.freeze=2 epochs", f"init={file}") == init_of(
        f"init={file}", "init.freeze=2 epochs"
    )


def test_the_digest_is_that_of_the_file(file: Path) -> None:
    assert init_of(f"init={file}").digest == hashlib.sha256(b"weights").hexdigest()[:12]


def test_a_relative_path_is_recorded_as_an_absolute_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert init_of("init=weights.pth").weights == str(file)


def test_the_same_content_elsewhere_is_the_same_run(file: Path) -> None:
    copy = file.with_name("copy.pth")
    copy.write_bytes(file.read_bytes())
    assert config(f"init={file}").digest() == config(f"init={copy}").digest()


def test_other_content_is_another_run(file: Path) -> None:
    before = config(f"init={file}").digest()
    file.write_bytes(b"others")
    assert config(f"init={file}").digest() != before


def test_published_networks_are_told_apart_by_name() -> None:
    digests = {config(f"init=torchvision:resnet{n}").digest() for n in (18, 50)}
    assert len(digests) == 2


def test_a_recorded_digest_is_kept_without_reading_the_file(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "run.yaml"
    written.write_text(dump_yaml(config(f"init={file}")))
    before = init_of(f"init={file}").digest
    file.unlink()
    found = run_config(file=written).init
    assert found is not None
    assert found.digest == before


def test_another_weights_override_replaces_the_digest(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "run.yaml"
    written.write_text(dump_yaml(config(f"init={file}")))
    other = file.with_name("other.pth")
    other.write_bytes(b"other")
    found = run_config(file=written, overrides=[f"init.weights={other}"]).init
    assert found is not None
    assert found.digest == hashlib.sha256(b"other").hexdigest()[:12]


def test_a_file_beside_a_model_of_timm_has_a_digest(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    found = init_of(f"init=timm:resnet18@{file.name}")
    assert found.weights == f"timm:resnet18@{file}"
    assert found.digest == hashlib.sha256(b"weights").hexdigest()[:12]


def test_a_folder_of_transformers_has_the_digest_of_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    assert init_of(f"init={tmp_path}").digest == hashlib.sha256(b"weights").hexdigest()[:12]


def test_a_card_has_the_digest_of_its_file() -> None:
    name, path = next(iter(card_files().items()))
    assert init_of(f"init={name}").digest == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_missing_weights_are_an_error_at_once() -> None:
    with pytest.raises(UserError, match="there are no weights 'missing.pth'; pass a run folder"):
        config("init=missing.pth")


def test_a_run_without_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="has no complete checkpoint; train it first"):
        config(f"init={tmp_path}")


def test_freezing_stages_needs_a_duration(file: Path) -> None:
    with pytest.raises(UserError, match="freezes nothing without a duration"):
        config(f"init={file}", "init.freeze_layers=2")


def test_a_backbone_frozen_for_the_whole_run_is_an_error(file: Path) -> None:
    with pytest.raises(UserError, match="init.freeze of 45 epochs is not shorter than the 45"):
        config(f"init={file}", "init.freeze=45 epochs")


def test_lower_bounds_have_no_weights(file: Path) -> None:
    with pytest.raises(UserError, match="'random_init' does not train; leave init out"):
        run_config("random_init", overrides=[f"init={file}"])
