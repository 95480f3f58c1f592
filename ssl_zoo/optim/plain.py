"""torch's SGD and AdamW under their registered names."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch.optim.optimizer import ParamsT

from ssl_zoo.config import NamedConfig
from ssl_zoo.optim.base import OPTIMIZERS


@OPTIMIZERS.register
class SGD(torch.optim.SGD):
    """Stochastic gradient descent with momentum."""

    class Config(NamedConfig):
        """Settings of SGD; defaults from MoCo (arXiv:1911.05722) for a batch size of 256."""

        name: Literal["sgd"] = "sgd"
        lr: float = Field(default=0.03, gt=0, le=1000)
        """Peak learning rate."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """Momentum: fraction of the previous update that is kept."""
        weight_decay: float = Field(default=1e-4, ge=0, le=10)
        """Multiple of the weights added to the gradient."""
        nesterov: bool = False
        """Whether to use Nesterov momentum."""
        exclude_1d: bool = False
        """Whether to exempt biases and normalisation layers from weight decay."""

        @model_validator(mode="after")
        def _check_nesterov(self) -> "SGD.Config":
            if self.nesterov and self.momentum == 0:
                raise ValueError(
                    "nesterov needs a momentum above 0; raise momentum or set nesterov=false"
                )
            return self

    def __init__(self, config: Config, *, params: ParamsT) -> None:
        given: list[Any] = [*(without_decay_of_1d(params) if config.exclude_1d else params)]
        super().__init__(
            given,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=is_fused(given),
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state that may have been saved on another device."""
        super().load_state_dict(fused_as(self, state_dict))


@OPTIMIZERS.register
class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, arXiv:1711.05101)."""

    class Config(NamedConfig):
        """Settings of AdamW; defaults from DINO (arXiv:2104.14294) for a batch size of 256."""

        name: Literal["adamw"] = "adamw"
        lr: float = Field(default=5e-4, gt=0, le=10)
        """Peak learning rate."""
        weight_decay: float = Field(default=0.04, ge=0, le=10)
        """Decoupled weight decay: a step shrinks weights by this fraction times the learning rate."""
        beta1: float = Field(default=0.9, ge=0, lt=1)
        """Decay rate of the gradient's running mean."""
        beta2: float = Field(default=0.999, ge=0, lt=1)
        """Decay rate of the squared gradient's running mean."""
        eps: float = Field(default=1e-8, gt=0, le=1)
        """Added to the square root of the squared gradient's running mean."""
        exclude_1d: bool = True
        """Whether to exempt biases and normalisation layers from weight decay, as in DINO and MAE."""

    def __init__(self, config: Config, *, params: ParamsT) -> None:
        given: list[Any] = [*(without_decay_of_1d(params) if config.exclude_1d else params)]
        super().__init__(
            given,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=is_fused(given),
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state that may have been saved on another device."""
        super().load_state_dict(fused_as(self, state_dict))


def is_fused(params: Sequence[Any]) -> bool | None:
    """Returns True for parameters or groups on a GPU, where a step is then a few kernels; else None."""
    members = [
        p for item in params for p in (item["params"] if isinstance(item, dict) else [item])
    ]
    return True if any(p.device.type == "cuda" for p in members) else None


def fused_as(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's saved state with steps fused as in this one, not as where it was saved."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**g, "fused": fused} for g in state["param_groups"]]}


def without_decay_of_1d(params: ParamsT) -> list[dict[str, Any]]:
    """Returns the groups, each split into parameters with and without weight decay."""
    found = []
    for item in params:
        group = item if isinstance(item, dict) else {"params": [item]}
        members = list(group["params"])
        for chosen, own in (
            ([p for p in members if p.ndim > 1], {}),
            ([p for p in members if p.ndim <= 1], {"weight_decay": 0.0}),
        ):
            if chosen:
                found.append({**group, **own, "params": chosen})
    return found
