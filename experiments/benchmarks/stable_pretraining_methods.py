"""Models of stable-pretraining 0.1.8 as they come, for `method_steps.py`.

Each takes one tensor `(V, B, C, H, W)` for each crop size and returns the loss of the package's own
class; teachers follow after a step, as its callback lets them.
"""

import os
from typing import Any

os.environ.setdefault("LOGURU_LEVEL", "ERROR")

import torch
from stable_pretraining import Module, forward
from stable_pretraining.backbone import TeacherStudentWrapper
from torch import Tensor, nn


class TwoViews(nn.Module):
    """Any method of two views, queue filled: `(view1, view2)` in, a loss among others out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        queue: Any = getattr(model, "queue", None)
        if queue is not None:
            queue.append(nn.functional.normalize(torch.randn_like(queue.out), dim=1))

    def forward(self, views: list[Tensor]) -> Tensor:
        loss: Tensor = self.model(*views[0]).loss
        return loss

    def after_step(self) -> None:
        for module in self.modules():
            if isinstance(module, TeacherStudentWrapper):
                module.update_teacher()


class MultiCrop(TwoViews):
    """Any method of global and local views."""

    def forward(self, views: list[Tensor]) -> Tensor:
        local = [crop for group in views[1:] for crop in group]
        loss: Tensor = self.model(global_views=list(views[0]), local_views=local).loss
        return loss


class OneView(TwoViews):
    """Masked image modelling, which sees the first view."""

    def forward(self, views: list[Tensor]) -> Tensor:
        loss: Tensor = self.model(views[0][0]).loss
        return loss


class Supervised(nn.Module):
    """The supervised forward function, on the first view."""

    def __init__(self, backbone: nn.Module, *, n_classes: int) -> None:
        super().__init__()
        self.model = Module(
            forward=forward.supervised,
            backbone=backbone,
            classifier=nn.Linear(512, n_classes),
            supervised_loss=nn.CrossEntropyLoss(),
        )
        self.model.log = lambda *_, **__: None  # there is no trainer to log to
        self.n_classes = n_classes

    def forward(self, views: list[Tensor]) -> Tensor:
        images = views[0][0]
        label = torch.arange(len(images)) % self.n_classes
        loss: Tensor = self.model({"image": images, "label": label}, stage="train")["loss"]
        return loss
