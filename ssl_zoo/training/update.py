"""One step: an optimizer update from a batch, and its metrics."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.evaluators.collapse import effective_rank, feature_std
from ssl_zoo.method import Batch, Method, StepOutput
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.schedule import Progress
from ssl_zoo.training.agreement import Agreement
from ssl_zoo.training.build import split_batch, to_batch, wrap
from ssl_zoo.training.initial import Freezing, scaled_groups
from ssl_zoo.training.rates import Rates

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Type in which a precision computes; None leaves float32 as it is."""


class Update:
    """Takes steps: the loss, its gradients, and what the optimizer does with them.

    Args:
        config: settings of the run.
        method: the method in training.
        device: its device.

    Attributes:
        optimizer: the optimizer of the method's parameters.
        scaler: loss scaler for fp16.
        rates: sets learning rates and weight decays.
    """

    def __init__(self, config: RunConfig, method: Method, device: torch.device) -> None:
        self._config, self._method, self._device = config, method, device
        self._freezing = Freezing(config.init, method.backbone)
        self._wrapped = wrap(method, device, deterministic=config.deterministic)
        groups = [dict(group) for group in method.param_groups()]
        if config.init is not None and config.init.layer_decay is not None:
            groups = scaled_groups(groups, method.backbone, config.init.layer_decay)
        self.optimizer = OPTIMIZERS.build(config.optimizer, params=groups)
        self.rates = Rates(self.optimizer, config.schedule)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._output: StepOutput | None = None

    def take(self, loaded: LoadedBatch, progress: Progress, agreement: Agreement) -> None:
        """Takes one step; all ranks must call it.

        Args:
            loaded: this rank's images.
            progress: the position of the step in the run.
            agreement: is told of each loss.
        """
        self.rates.set(progress)
        self._method.before_step(progress)
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_batch(to_batch(loaded, self._config, self._device), self._config.accumulate)
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            with nullcontext() if last else self._no_sync():
                self._output = self._forward(part, progress)
                agreement.note_loss(self._output.loss, progress.step + 1)
                loss: Any = self.scaler.scale(self._output.loss / len(parts))
                loss.backward()
        self._method.after_backward(progress)
        self._freezing.apply(progress)
        if self._config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._method.parameters(), self._config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._method.after_step(progress)
        self._method.commit(progress)

    @property
    def loss(self) -> float:
        """Loss of this rank in the last step."""
        assert self._output is not None
        return float(self._output.loss.detach())

    def metrics(self) -> dict[str, float]:
        """Returns what the last step measured, as means over ranks; all ranks must call it."""
        assert self._output is not None
        features = self._output.features.float()
        values = {
            "loss": self.loss,
            "feature_std": feature_std(features),
            "effective_rank": effective_rank(features),
            **self._output.metrics(),
            **self._queue_ages(),
        }
        means = (
            distributed.all_reduce(
                torch.tensor(list(values.values()), dtype=torch.float64, device=self._device)
            )
            / distributed.world_size()
        )
        scale = {"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {}
        return {
            **dict(zip(values, means.tolist(), strict=True)),
            "lr": self.rates.lr,
            **scale,
        }

    def _forward(self, batch: Batch, progress: Progress) -> StepOutput:
        dtype = DTYPES[self._config.precision]
        with torch.autocast(self._device.type, dtype) if dtype else nullcontext():
            output: StepOutput = self._wrapped(batch, progress)
        return replace(output, features=output.features[: batch.n_global * batch.n_images])

    def _no_sync(self) -> Any:
        return self._wrapped.no_sync() if distributed.world_size() > 1 else nullcontext()  # type: ignore[operator]

    def _queue_ages(self) -> dict[str, float]:
        """Returns how stale the queue is, if there is a full one."""
        ages = [memory.age_share() for memory in self._method.memories().values()]
        known = [age for age in ages if age is not None]
        return {"queue_age_share": max(known)} if known else {}
