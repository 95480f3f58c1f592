"""A plug-in file that tests write out: a method of a few lines under any name."""

from pathlib import Path

TEXT = '''"""A method in one file."""

from typing import ClassVar, Literal

from torch import nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.method import METHODS, Batch, Method, StepOutput, encode
from ssl_zoo.schedule import Progress


@METHODS.register
class Sketch(Method):
    """Pulls two views of an image together."""

    paper: ClassVar[str] = "none"

    class Config(NamedConfig):
        """Settings of the sketch."""

        name: Literal["{name}"] = "{name}"
        weight: float = 1.0

    def __init__(self, config, *, backbone, run):
        super().__init__(config, backbone=backbone, run=run)
        self.head = nn.Linear(backbone.feature_dim, 8, bias=False)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        n_images = batch.views[0].shape[1]
        features = encode(self.backbone, batch.views[:1])[: 2 * n_images]
        one, two = self.head(features).float().chunk(2)
        return StepOutput(self.config.weight * (one - two).square().mean(), features.detach())
'''
RUN = """\
backbone: {name: tiny_resnet, widths: [8, 16], stem_stride: 4}
schedule: {warmup: 2 steps}
epochs: 1
evaluation: {every: 0 epochs}
"""
"""Settings of a run of a few steps, but for `method` and `plugins`."""


def write_method(path: Path, name: str) -> Path:
    """Writes a plug-in file with a method of this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(name=name), encoding="utf-8")
    return path


def write_run(folder: Path, name: str) -> Path:
    """Writes `NAME.py` and `run.yaml`, which names it; returns the latter."""
    write_method(folder / f"{name}.py", name)
    settings = folder / "run.yaml"
    settings.write_text(f"plugins: [{name}.py]\nmethod: {name}\n{RUN}", encoding="utf-8")
    return settings
