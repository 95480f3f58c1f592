"""What a run says at its start, and in its last line."""

import logging
import shlex
from datetime import timedelta

import torch

from ssl_zoo import distributed
from ssl_zoo.backbones.base import parameter_count
from ssl_zoo.data.loader import ViewLoader
from ssl_zoo.data.workers import shortage
from ssl_zoo.method import Method
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.alarms import better_start, ended_below
from ssl_zoo.training.selection import Selection

logger = logging.getLogger(__name__)


def say_start(
    config: RunConfig,
    folder: RunFolder,
    method: Method,
    loader: ViewLoader,
    *,
    from_step: int,
) -> None:
    """Logs in three lines what is trained, on what, and where, on rank 0; and if loading lacks anything."""
    if not distributed.is_main():
        return
    run, ranks = method.run, distributed.world_size()
    views = " + ".join(f"{count} of {size} px" for size, count in config.view_counts.items())
    logger.info(
        "%s on %s: %d training images, views of each: %s, batches of %d%s",
        config.method.name,
        config.data.name,
        run.n_samples,
        views,
        config.global_batch_size,
        f" over {ranks} processes" if ranks > 1 else "",
    )
    logger.info(
        "backbone %s, %s parameters (%s with all of the method), on %s",
        config.backbone.name,
        _count(parameter_count(method.backbone)),
        _count(parameter_count(method)),
        torch.cuda.get_device_name(loader.device)
        if loader.device.type == "cuda"
        else loader.device.type,
    )
    _say_what_lacks(config, loader)
    logger.info(
        "%d epochs of %d steps, %d steps%s, in '%s'",
        config.epochs,
        run.steps_per_epoch,
        run.total_steps,
        f", resuming from step {from_step}" if from_step else "",
        folder.path,
    )


def _say_what_lacks(config: RunConfig, loader: ViewLoader) -> None:
    """Logs if the machine grants less to loader processes than they are meant to use."""
    count = loader.grant.num_workers
    if not loader.dataset.in_memory and count < config.num_workers:
        logger.info(
            "%d loader process%s%s instead of num_workers=%d, one for each core",
            count,
            "" if count == 1 else "es",
            " for each rank" if distributed.world_size() > 1 else "",
            config.num_workers,
        )
    if lack := shortage(loader.cut, loader.grant):
        logger.warning("%s", lack)
    if loader.views_by == "torch":
        logger.info(
            "views are made without OpenCV, which takes more than twice as long: pip install 'ssl-zoo[fast]'"
        )


def say_end(selection: Selection, step: int, *, seconds: float, speed: str, warned: bool) -> None:
    """Logs in one line how training ended and what to do next.

    Args:
        selection: the scores of the run.
        step: number of optimizer steps taken.
        seconds: training time.
        speed: images per second in words.
        warned: whether an alarm rang.
    """
    first, last = selection.first, selection.last
    said = [f"done: {step} steps in {timedelta(seconds=round(seconds))}, {speed}"]
    if selection.why_stopped:
        said.append(f"stopped early, as {selection.why_stopped}")
    said += [_score(name, value, first.get(name)) for name, value in last.items()]
    path = selection.folder.path
    if (best := selection.best) is not None:
        said.append(f"best {best.score} {best.value:.1f} at step {best.step}: {path}@best")
    worse = ended_below(first, last)
    if worse:
        what = "the network it started from" if selection.config.init else "the untrained network"
        alarm = "see the alarms above; " if warned else ""
        change = better_start(has_init=selection.config.init is not None)
        said.append(f"{worse[0]} ended below {what}: {alarm}{change}")
        logger.warning("%s", "; ".join(said))
        return
    where = shlex.quote(f"{path}@best" if best else str(path))
    logger.info("%s", "; ".join([*said, f"next: ssl-zoo evaluate {where}"]))


def _score(name: str, value: float, before: float | None) -> str:
    return f"{name} {value:.1f}" + ("" if before is None else f" (before training {before:.1f})")


def _count(n: int) -> str:
    """Returns a number with three digits: `11.2 M`."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= limit:
            return f"{n / limit:.3g}{unit}"
    return str(n)
