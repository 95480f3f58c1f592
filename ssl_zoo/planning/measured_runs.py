"""Whether a run is long enough to beat raw pixels, by the runs in `measured_runs.yaml`."""

from functools import cache
from pathlib import Path

from pydantic import Field, PositiveInt

from ssl_zoo.config import Config, read_yaml, validate
from ssl_zoo.planning.budget import time_text
from ssl_zoo.runs.config import RunConfig

CLEAR = 5.0
"""Points of kNN top-1 above which a run is clearly better than raw pixels: with 600 test images, the 95 %
interval of a difference reaches 4.4 points to either side
(experiments/2026-11-27_evaluators_on_real_images)."""
TABLE = Path(__file__).with_name("measured_runs.yaml")


class Measured(Config):
    """A run of a known length and its score."""

    method: str
    """The method."""
    images: PositiveInt
    """Number of training images."""
    epochs: PositiveInt
    """Passes over them."""
    global_views: PositiveInt
    """Global views of an image in each pass."""
    top1: float = Field(ge=0, le=100)
    """kNN top-1 (dino, k=20) in percent."""
    pixels: float = Field(ge=0, le=100)
    """The same for raw pixels."""

    @property
    def seen(self) -> int:
        """Global views that the network saw."""
        return self.images * self.epochs * self.global_views

    @property
    def is_clear(self) -> bool:
        """Whether it is clearly above raw pixels."""
        return self.top1 - self.pixels > CLEAR


class _Table(Config):
    runs: list[Measured] = Field(min_length=1)


@cache
def known_runs() -> list[Measured]:
    """Returns the runs that were measured, by the global views that they saw."""
    return sorted(validate(_Table, read_yaml(TABLE)).runs, key=lambda one: (one.seen, one.top1))


def too_short(config: RunConfig, n_images: int, *, seconds: float) -> str:
    """Returns in one line that a run is shorter than those that beat raw pixels, and what helps.

    Empty if it is not, or if it starts from weights.

    Args:
        config: settings of the run.
        n_images: number of training images.
        seconds: expected duration.
    """
    views = next(iter(config.view_counts.values()))
    seen = n_images * config.epochs * views
    runs = known_runs()
    least = next(one for one in runs if one.is_clear)
    if config.init is not None or seen >= least.seen:
        return ""
    short = [one for one in runs if one.seen < least.seen]
    longest = f" and {short[-1].seen:,} were not ({short[-1].top1:g})" if short else ""
    needed = time_text(seconds * least.seen / seen)
    return (
        f"{config.epochs} epochs of {n_images:,} images are {seen:,} global views, too few to expect more "
        f"than raw pixels give: of our runs on photographs, {least.seen:,} were clearly enough "
        f"({least.method}, kNN {least.top1:g} against {least.pixels:g}){longest}; start from released "
        f"weights (init=WEIGHTS), train for about {needed}, or use smaller views (augmentation.crops.0.size)"
    )
