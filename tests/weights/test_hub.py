"""Weights on a hub: real requests of huggingface_hub to a small server."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import ssl_zoo
from ssl_zoo.errors import UserError
from ssl_zoo.report.card import write_card
from ssl_zoo.report.card_check import verify_card
from ssl_zoo.weights.hub import fetch_hub, push_hub
from ssl_zoo.weights.open import open_checkpoint
from tests.weights.hub_server import TOKEN, SmallHub, small_hub

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    from huggingface_hub import constants

    with small_hub() as (address, contents):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield contents


@pytest.fixture(scope="module")
def card(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(small_run, tmp_path_factory.mktemp("cards"), name="mine")


def test_a_card_that_is_pushed_is_loaded_by_its_name(hub: SmallHub, card: Path) -> None:
    push_hub("hf:me/mine", card)
    files = hub.repositories["me/mine"]
    assert sorted(files) == ["README.md", "config.yaml", "model.safetensors"]
    assert b'ssl_zoo.load("hf:me/mine")' in files["README.md"]
    assert b"[all settings](config.yaml)" in files["README.md"]
    backbone = ssl_zoo.load("hf:me/mine")
    mine = ssl_zoo.load(card.with_suffix(".safetensors"))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(backbone(image), mine(image))
    assert all(score.agrees for score in verify_card("hf:me/mine", {}))


def test_weights_are_not_downloaded_twice(hub: SmallHub, card: Path) -> None:
    push_hub("hf:me/mine", card)
    first = fetch_hub("hf:me/mine")
    hub.requests.clear()
    assert fetch_hub("hf:me/mine") == first
    assert not [line for line in hub.requests if line.startswith("GET") and "safetensors" in line]
    commit = hub.commit_of("me/mine")
    assert fetch_hub(f"hf:me/mine@{commit}") == first


def test_weights_that_differ_from_their_card_are_refused(hub: SmallHub, card: Path) -> None:
    push_hub("hf:me/mine", card)
    other = card.parent / "other.safetensors"
    safetensors = hub.repositories["me/mine"]["model.safetensors"]
    other.write_bytes(safetensors[:-1] + bytes([safetensors[-1] ^ 1]))
    hub.repositories["me/mine"]["model.safetensors"] = other.read_bytes()
    with pytest.raises(
        UserError, match="'hf:me/mine' has weights with the SHA-256 .* its card states"
    ):
        open_checkpoint("hf:me/mine")


def test_pickled_weights_are_not_read(hub: SmallHub) -> None:
    hub.repositories["me/mine"] = {"pytorch_model.bin": b"\x80\x02.", "README.md": b"# mine"}
    with pytest.raises(
        UserError, match=r"has no model.safetensors; only safetensors files are read"
    ):
        open_checkpoint("hf:me/mine")
    hub.repositories["me/other"] = {"model.safetensors": b"\x80\x02."}
    with pytest.raises(UserError, match="hf:me/other"):
        open_checkpoint("hf:me/other")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("hf:me/nothing", "there is no 'hf:me/nothing' on the Hub, or it is private"),
        ("hf:me/mine@v2", "there is no 'hf:me/mine@v2' on the Hub"),
        ("hf:mine", "write hf:USER/NAME"),
        ("hf:me/mine/more", "write hf:USER/NAME"),
    ],
)
def test_what_is_not_on_the_hub_is_named_in_a_line(what: str, told: str, hub: SmallHub) -> None:
    hub.repositories["me/mine"] = {"README.md": b"# mine"}
    with pytest.raises(UserError) as caught:
        open_checkpoint(what)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_is_not_logged_in_pushes_nothing(
    hub: SmallHub, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UserError, match="'hf:me/mine' cannot be reached on the Hub: .*401"):
        push_hub("hf:me/mine", card)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(UserError, match="no login for the Hub; run: hf auth login"):
        push_hub("hf:me/mine", card)
    assert hub.repositories == {}


def test_a_hub_that_does_not_answer_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match="'hf:me/mine' cannot be reached on the Hub, and is not"
    ) as caught:
        open_checkpoint("hf:me/mine")
    assert "\n" not in str(caught.value)


def test_weights_in_the_cache_need_no_network(
    hub: SmallHub, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_hub("hf:me/mine", card)
    first = fetch_hub("hf:me/mine")
    monkeypatch.setattr("ssl_zoo.backbones.hub_reach.hub_answers", lambda: False)
    hub.requests.clear()
    assert fetch_hub("hf:me/mine") == first
    assert hub.requests == []


def test_a_folder_of_transformers_on_the_hub_is_read_with_its_description(
    hub: SmallHub, tmp_path: Path
) -> None:
    library = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    net = library.ViTModel(library.ViTConfig(num_attention_heads=3, **sizes)).eval()
    net.save_pretrained(tmp_path)
    names = ("config.json", "model.safetensors")
    hub.repositories["me/vit"] = {name: (tmp_path / name).read_bytes() for name in names}
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = net(image).last_hidden_state[:, 0]
        torch.testing.assert_close(ssl_zoo.load("hf:me/vit")(image), expected)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ssl-zoo\[hub\]'"):
        fetch_hub("hf:me/mine")
