"""MoCo v2 (Chen et al., 2020, "Improved baselines with momentum contrastive learning",
arXiv:2003.04297) on MoCo (He et al., 2020, arXiv:1911.05722), after the text and the facts of
facebookresearch/moco."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, RunSettings, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.losses.info_nce import InfoNCELoss, InfoNCESettings, positive_cosine
from ssl_zoo.memory import SharedQueue, check_fits_data, check_whole_batches
from ssl_zoo.memory.counts import queue_of
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode, over_chance
from ssl_zoo.schedule import Progress, Share
from ssl_zoo.teacher import Teacher


@METHODS.register
class MoCoV2(Method):
    """Identifies the key of the same image among a long queue of keys of other images."""

    paper: ClassVar[str] = "Chen et al., 2020, arXiv:2003.04297"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance("lower optimizer.lr, or lengthen schedule.warmup"),
    )

    class Config(InfoNCESettings, NamedConfig):
        """Settings of MoCo v2; defaults are the paper's for ImageNet."""

        name: Literal["moco_v2"] = "moco_v2"
        head: Annotated[NamedConfig, HEADS] = default({"name": "mlp", "batch_norm": False})
        """Projection head between features and embeddings, of student and teacher."""
        queue_length: int = Field(default=65536, ge=2)
        """Number of keys of earlier batches, over all processes, used as negatives."""
        momentum: Share = default(0.999)
        """Momentum of the teacher: fraction of its weights that a step keeps."""
        symmetric: bool = False
        """Whether each global view provides a key for all other views, not only the last one.

        This doubles the pairs of a step, and the teacher processes all global views; not in the paper,
        but in the authors' demo for CIFAR-10.
        """

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if the queue does not consist of whole batches."""
            check_whole_batches(self.queue_length, run.global_batch_size)

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns the length of the queue for the number of images; see `Method.fitted`."""
        return {"queue_length": queue_of(run, part=4)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        check_fits_data(config.queue_length, run.n_samples, run.global_batch_size)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.teacher = Teacher(backbone, self.head)
        self.queue = SharedQueue(config.queue_length, int(self.head.output_dim))  # type: ignore[arg-type]
        self.loss = InfoNCELoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of all other views with the keys of the last global view, or of all of
        them."""
        global_views, *local_views = batch.views
        symmetric = self.config.symmetric
        asking = global_views if symmetric else global_views[:-1]
        features = encode(self.backbone, [asking, *local_views])  # (V * B, D)
        queries = batch.by_view(l2_normalize(self.head(features)))  # (V, B, d)
        keyed = global_views if symmetric else global_views[-1:]
        keys = batch.by_view(l2_normalize(self.teacher([keyed])))  # (K, B, d)
        loss = self.loss(queries, keys, self.queue.embeddings(keys), same_views=symmetric)
        self.queue.keep(keys[-1])
        return StepOutput(
            loss,
            features[: len(asking) * batch.n_images],
            lambda: {
                "loss_over_chance": over_chance(loss, 1 + len(self.queue)),
                "positive_cosine": float(positive_cosine(queries, keys, same_views=symmetric)),
            },
        )

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)
