"""Sets the learning rates and weight decays of the optimizer in each step."""

import torch

from ssl_zoo.schedule import Progress, ScheduleConfig


class Rates:
    """Applies a schedule; groups may scale the rate or keep the peak rate.

    Args:
        optimizer: built with the peak rate and initial weight decay; see `Method.param_groups`.
        schedule: schedule of both.

    Attributes:
        lr: learning rate of the current step, before scaling by groups.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: ScheduleConfig) -> None:
        self._optimizer, self._schedule = optimizer, schedule
        self._decays = [group["weight_decay"] for group in optimizer.param_groups]
        self.lr: float = optimizer.defaults["lr"]

    def set(self, progress: Progress) -> None:
        """Sets the rates of a step."""
        peak, total = self._optimizer.defaults["lr"], progress.total_steps
        self.lr = self._schedule.lr(
            progress.step,
            peak_lr=peak,
            total_steps=total,
            steps_per_epoch=progress.steps_per_epoch,
        )
        for group, decay in zip(self._optimizer.param_groups, self._decays, strict=True):
            rate = peak if group.get("constant_lr") else self.lr
            group["lr"] = rate * group.get("lr_scale", 1.0)
            if decay:  # groups without weight decay stay without
                group["weight_decay"] = self._schedule.weight_decay(
                    progress.step, start=decay, total_steps=total
                )
