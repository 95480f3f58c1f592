"""What a backbone can be exported as; without heavy imports, so that help texts can name it."""

from typing import Literal, get_args

ExportKind = Literal["safetensors", "torchvision", "timm", "onnx", "hub"]
EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)
