"""LiDAR of a network."""

from typing import Any

import pytest
import torch

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.subset import Subset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluators.base import Subject
from ssl_zoo.evaluators.lidar import BATCH, Lidar
from ssl_zoo.testing.ranks import run_on_ranks
from ssl_zoo.training.train import train
from tests.small import fast_config, tiny_backbone


def subject(backbone: Backbone | None = None) -> Subject:
    train_images, test = (DATASETS.build("digits", split=split) for split in ("train", "test"))
    network = backbone or tiny_backbone()
    return Subject(network, train_images, test, 16, torch.device("cpu"))


def score(which: Subject, *, seed: int = 0, **settings: Any) -> float:
    config = Lidar.Config(**{"images": 64, "views": 4, **settings})
    return Lidar(config).evaluate_images(which, seed=seed).values["lidar"]


def test_it_is_a_rank_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    network = subject()
    found = score(network)
    assert 1 <= found <= network.backbone.feature_dim
    assert score(network) == found
    assert score(network, seed=1) != found


def test_the_network_is_left_as_it_was() -> None:
    network = subject()
    network.backbone.train()
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    score(network)
    assert network.backbone.training
    after = network.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_every_view_of_an_image_counts_with_its_mean() -> None:
    """The moments are those of all features together."""
    seen: list[torch.Tensor] = []

    class Watched(Backbone):
        feature_dim = 3

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = images.mean(dim=(2, 3))
            seen.append(features)
            return features

    network = subject(Watched())
    lidar = Lidar(Lidar.Config(images=64, views=4))
    moments = []
    inner = lidar._moments
    lidar._moments = lambda *given: moments.append(inner(*given)) or moments[0]  # type: ignore[func-returns-value,method-assign]
    lidar.evaluate_images(network)
    features = torch.cat([one.reshape(4, BATCH, 3) for one in seen], dim=1).double()
    means, within = moments[0]
    torch.testing.assert_close(means, features.mean(dim=0))
    away = (features - features.mean(dim=0)).flatten(0, 1)
    torch.testing.assert_close(within, away.T @ away / (64 * 3))


def test_too_few_images_are_refused() -> None:
    few = subject()
    test = DATASETS.build("digits", split="test")
    small = Subject(few.backbone, few.train, Subset(test, torch.arange(20)), 16, few.device)
    with pytest.raises(
        UserError, match="lidar needs at least 32 images, but the test split has 20"
    ):
        score(small)


def test_it_can_choose_a_checkpoint_and_score_a_run(tmp_path: Any) -> None:
    lidar = "{name: lidar, images: 64, views: 4}"
    settings = (f"evaluation.evaluators=[{lidar}]", "checkpoint.best=lidar/lidar")
    config = fast_config("simclr", "epochs=1", "evaluation.every=1 epochs", *settings)
    run = train(config, tmp_path / "run", bar=False)
    assert (run / "best.json").is_file()
    found = evaluate(run, evaluators=[{"name": "lidar", "images": 64, "views": 4}])
    assert found.evaluators["lidar"].value >= 1


@pytest.mark.distributed
def test_two_ranks_find_what_one_finds() -> None:
    alone = _seeded_score()
    assert run_on_ranks(_seeded_score, 2) == [alone, alone]


def _seeded_score() -> float:
    torch.manual_seed(0)
    return score(subject())
