"""LiDAR: how many directions tell images apart by their views, without labels."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.augmentations.evaluation import normalize
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.subset import Subset
from ssl_zoo.data.workers import Grant, shared_memory
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, ImageEvaluator, Scores, Subject
from ssl_zoo.evaluators.spectrum import lidar_rank

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""
BATCH = 16
"""Images whose views are computed at a time."""
LEAST_IMAGES = 2 * BATCH


@EVALUATORS.register
class Lidar(ImageEvaluator):
    """LiDAR, the rank of the directions that tell images apart by their views; needs no labels.

    The score is `lidar`, from 1 to the smaller of images - 1 and features; larger is better within one
    method and network. See `ssl_zoo.evaluators.spectrum.lidar_rank` (Thilak et al., 2024,
    arXiv:2312.04000).

    Every checkpoint gets the same views, random crops that are mirrored at random, so that scores do not
    depend on a run's augmentation; the authors take each method's own views of its head's output. It does
    not rank methods, networks of other widths, or features of another scale, because of `delta`.
    """

    compares_methods: ClassVar[bool] = False

    class Config(NamedConfig):
        """Settings of LiDAR."""

        name: Literal["lidar"] = "lidar"
        split: Literal["test", "train"] = "test"
        """Split whose images are used."""
        images: int = Field(default=1000, ge=LEAST_IMAGES, le=100_000)
        """Number of images, drawn at random; rounded down to whole batches of 16."""
        views: int = Field(default=10, ge=2, le=100)
        """Number of views of each image."""
        min_scale: float = Field(default=0.08, gt=0, le=1)
        """Smallest fraction of an image's area in a view."""
        flip: float = Field(default=0.5, ge=0, le=1)
        """Probability that a view is mirrored; use 0 if left and right matter."""
        delta: float = Field(default=1e-4, gt=0, le=1)
        """What is added to the variances within images, so that they can be inverted."""

    config: Config

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the score; all ranks must call it, and rank 0 computes.

        Raises:
            UserError: there are too few images, they cannot be read, or features are not finite.
        """
        found: list[float] = []
        distributed.on_main(lambda: found.append(self._rank(subject, seed)))
        value: float = distributed.broadcast_object(found[0] if found else None)
        settings: dict[str, Any] = {**self.config.model_dump(mode="json"), "version": VERSION}
        return Scores(
            values={"lidar": value},
            intervals={},
            protocol=scoring.described("lidar", settings),
            headline="lidar",
        )

    def _rank(self, subject: Subject, seed: int) -> float:
        config = self.config
        dataset = subject.test if config.split == "test" else subject.train
        if len(dataset) < LEAST_IMAGES:
            raise UserError(
                f"lidar needs at least {LEAST_IMAGES} images, but the {config.split} split has "
                f"{len(dataset)}; use more images"
            )
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(dataset), generator=draw)[: config.images]
        loader = ViewLoader(
            Subset(dataset, rows.sort().values),
            AUGMENTATIONS.build(self._views(subject.image_size)),
            Sampling(BATCH, seed=seed),
            grant=Grant(subject.num_workers, shared_memory()),  # rank 0 is alone here
            device=subject.device,
        )
        trains = subject.backbone.training
        try:
            means, within = self._moments(subject, loader)
        finally:
            subject.backbone.train(trains)
        if not means.isfinite().all():
            raise UserError("lidar needs finite features; the network's are not")
        return lidar_rank(means, within, delta=config.delta)

    @torch.no_grad()
    def _moments(self, subject: Subject, loader: ViewLoader) -> tuple[Tensor, Tensor]:
        """Returns the mean of each image's views `(N, D)`, and their covariance around it `(D, D)`."""
        network = subject.backbone.eval()
        means: list[Tensor] = []
        scatter: Tensor | int = 0
        data = subject.test.config
        for batch in loader.epoch(0):
            views = batch.views[0].to(subject.device)  # (V, B, C, S, S) uint8
            images = normalize(views.flatten(0, 1), data.mean, data.std)
            features = network(images.contiguous(memory_format=torch.channels_last))
            features = features.double().cpu().unflatten(0, views.shape[:2])  # (V, B, D)
            means.append(features.mean(dim=0))
            away = (features - means[-1]).flatten(0, 1)
            scatter = scatter + away.T @ away
        assert isinstance(scatter, Tensor)
        every = torch.cat(means)
        return every, scatter / (len(every) * (self.config.views - 1))

    def _views(self, size: int) -> dict[str, Any]:
        config = self.config
        return {
            "name": "multicrop",
            "crops": [{"size": size, "count": config.views, "scale": (config.min_scale, 1.0)}],
            "flip": config.flip,
            "color_jitter": {"probability": 0},
            "blur": {"probability": 0},
            "grayscale": 0,
        }
