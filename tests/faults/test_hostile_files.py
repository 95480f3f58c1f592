"""Files of others that are damaged, or made to do harm."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ssl_zoo.errors import UserError
from ssl_zoo.weights.export import write
from ssl_zoo.weights.open import METADATA, open_checkpoint
from tests.formats.files import trunk
from tests.small import tiny_backbone

RESNET = {"name": "resnet18", "stem": "imagenet"}
TINY = {"name": "tiny_resnet", "widths": [8, 16], "stem_stride": 4}


def released(path: Path, weights: dict[str, Tensor], **facts: Any) -> Path:
    """Writes a weight file of ours with these facts in its metadata."""
    safetensors.torch.save_file(weights, path, metadata={METADATA: json.dumps(facts)})
    return path


def refusal(path: Path) -> str:
    """Returns the one line that opening a file ends with."""
    with pytest.raises(UserError) as raised:
        open_checkpoint(path).layers()
    assert "\n" not in str(raised.value)
    return str(raised.value)


CODE = "[0]; import os; os.system('touch PWNED')"
QUOTED = '[0]"""\nimport os\nos.system("touch PWNED")\n"""'


@pytest.mark.parametrize("field", ["normalisation", "data"])
@pytest.mark.parametrize("text", [CODE, QUOTED])
def test_settings_in_a_file_are_python_code(field: str, text: str, tmp_path: Path) -> None:
    """The metadata of a downloaded weight file holds Python code where numbers belong.

    Then: the file is refused; the line names the field.
    Do: do not use the file.
    """
    facts: dict[str, Any] = {"mean": text, "std": [1, 1, 1]}
    facts |= {"name": "of_a_plug_in"} if field == "data" else {}
    path = released(
        tmp_path / "x.safetensors", tiny_backbone().state_dict(), backbone=TINY, **{field: facts}
    )
    message = refusal(path)
    assert field in message
    assert "mean" in message


def test_code_in_names_is_exported_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field of text, such as the name of the method, holds Python code, and the file is exported.

    Then: `hubconf.py` is the same for all files; `backbone.json` holds what differs, as data.
    Do: nothing.
    """
    monkeypatch.chdir(tmp_path)
    weights = {f"trunk.{name}": tensor for name, tensor in trunk().items()}
    data = {"name": QUOTED, "mean": [0.5] * 3, "std": [0.5] * 3, QUOTED: QUOTED}
    path = released(tmp_path / "x.safetensors", weights, backbone=RESNET, data=data, method=QUOTED)
    write(open_checkpoint(path), tmp_path / "hub", "hub")
    load: Any = torch.hub.load
    load("hub", "backbone", source="local")
    assert "PWNED" not in (tmp_path / "hub" / "hubconf.py").read_text()
    assert not (tmp_path / "PWNED").exists()


def test_a_small_file_asks_for_a_huge_network(tmp_path: Path) -> None:
    """A file of a few kilobytes says that its network is a transformer of 13 billion parameters.

    Then: it is refused before the network is built, in a moment and without memory.
    Do: do not use the file.
    """
    vit = {"name": "vit", "width": 4096, "depth": 64, "heads": 64}
    path = released(tmp_path / "x.safetensors", tiny_backbone().state_dict(), backbone=vit)
    assert "do not match the architecture of its backbone 'vit'" in refusal(path)


def test_a_small_file_asks_for_huge_prototypes(tmp_path: Path) -> None:
    """A file of a few kilobytes says that there are a billion prototypes on top of its network.

    Then: asking for them is refused before they are built; the network itself can be used.
    Do: do not use the file.
    """
    top = {"head": {"name": "mlp"}, "input_dim": 16, "n_prototypes": [10**9]}
    path = released(
        tmp_path / "x.safetensors", tiny_backbone().state_dict(), backbone=TINY, on_top=top
    )
    assert "weights of head and prototypes do not match" in refusal(path)


def test_a_file_names_a_device_as_its_plug_in(tmp_path: Path) -> None:
    """The settings in a file name `/dev/zero` as their plug-in, without a digest.

    Then: the file is refused; what it names is not opened.
    Do: do not use the file.
    """
    config = {"plugins": ["/dev/zero"]}
    path = released(
        tmp_path / "x.safetensors", tiny_backbone().state_dict(), backbone=TINY, config=config
    )
    assert "plugins is not a list of files with their digests" in refusal(path)


def header(path: Path, text: bytes, *, length: int | None = None, body: bytes = b"") -> Path:
    """Writes a safetensors file with this header."""
    told = len(text) if length is None else length
    path.write_bytes(told.to_bytes(8, "little") + text + body)
    return path


@pytest.mark.parametrize("length", [2**63 - 1, 2**40, 200_000_000, 0])
def test_a_header_of_an_absurd_length(length: int, tmp_path: Path) -> None:
    """A safetensors file says that its header has exabytes, or none at all.

    Then: it is refused; nothing of that size is read.
    Do: download the file again.
    """
    path = header(tmp_path / "x.safetensors", b"{}" + b" " * 100, length=length)
    assert "not a complete safetensors file" in refusal(path)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [([2**40, 2**40], [0, 8]), ([2], [0, 2**50]), ([2], [8, 0]), ([-1], [0, 8]), ([3], [0, 8])],
)
def test_a_tensor_that_does_not_fit_its_file(
    shape: list[int], offsets: list[int], tmp_path: Path
) -> None:
    """A safetensors file describes a tensor of an absurd shape, or one outside of the file.

    Then: it is refused.
    Do: download the file again.
    """
    entry = {"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    path = header(tmp_path / "x.safetensors", json.dumps(entry).encode(), body=bytes(8))
    assert "not a complete safetensors file" in refusal(path)


def test_tensors_that_overlap(tmp_path: Path) -> None:
    """Two tensors of a safetensors file share bytes.

    Then: it is refused.
    Do: do not use the file.
    """
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    text = json.dumps({"a": one, "b": other}).encode()
    path = header(tmp_path / "x.safetensors", text, body=bytes(12))
    assert "not a complete safetensors file" in refusal(path)


def test_a_tensor_of_a_trillion_values_in_a_kilobyte(tmp_path: Path) -> None:
    """A torch file repeats one value a trillion times without holding it more than once.

    Then: it is refused; the line names the tensor.
    Do: do not use the file.
    """
    torch.save(
        {"state_dict": {"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}}, tmp_path / "x.pth"
    )
    message = refusal(tmp_path / "x.pth")
    assert "'state_dict.conv1.weight' has 1,000,000,000,000 values, and holds 1 of them" in message


def test_a_tensor_without_values(tmp_path: Path) -> None:
    """A torch file holds a tensor that has a shape and no values.

    Then: it is refused; the line names the tensor.
    Do: do not use the file.
    """
    torch.save({"a": torch.zeros(10**6, 10**6, device="meta")}, tmp_path / "x.pth")
    assert "holds 'a' as a tensor of a special kind" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(value: float, tmp_path: Path) -> None:
    """Some weights of a file are not finite, because its training diverged.

    Then: it is not scored, which would give numbers without meaning; the line names the weights.
    Do: use an earlier checkpoint.
    """
    weights = tiny_backbone().state_dict()
    weights["stages.0.conv1.weight"][0, 0, 0, 0] = value
    path = released(tmp_path / "x.safetensors", weights, backbone=TINY)
    assert "are not finite in stages.0.conv1.weight" in refusal(path)


@pytest.mark.parametrize("name", ["../../up.pkl", "/etc/up.pkl", "archive/../../up"])
def test_an_archive_with_paths_outside(name: str, tmp_path: Path) -> None:
    """A torch file is an archive with a path that leads out of it.

    Then: it is refused, although nothing of it would be unpacked.
    Do: do not use the file.
    """
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth", "a") as archive:
        archive.writestr(name, b"up")
    assert f"a path outside of it, '{name}'" in refusal(tmp_path / "x.pth")
    assert {path.name for path in tmp_path.rglob("*")} == {"x.pth"}


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """A torch file is a compressed archive, which can unpack to a thousand times its size.

    Then: it is refused before it is unpacked.
    Do: do not use the file, or unpack it yourself.
    """
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    assert "a compressed archive" in refusal(tmp_path / "x.pth")


def test_an_archive_whose_end_is_damaged(tmp_path: Path) -> None:
    """The record at the end of a torch file says that it spans several disks.

    Then: it is refused in one line.
    Do: download the file again.
    """
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[content.rfind(b"PK\x06\x07") + 4] = 1  # number of the disk
    (tmp_path / "x.pth").write_bytes(content)
    assert "truncated" in refusal(tmp_path / "x.pth")
