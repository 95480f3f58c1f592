"""Export formats of a backbone; without heavy imports, so that help texts can list them."""

from typing import Literal, get_args

ExportKind = Literal["safetensors", "torchvision", "timm", "onnx", "hub"]
EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)
