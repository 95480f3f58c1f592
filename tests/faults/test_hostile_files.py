"""Files of others that are damaged, or made to do harm."""

import json
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
