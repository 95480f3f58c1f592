import copy
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.augmentations import random
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import ImageEvaluator, Scores, Subject
from ssl_zoo.evaluators.probes.finetune import Finetune, LinearSgd, balanced
from tests.distributed import run_on_ranks
from tests.small import tiny_backbone

SIZE = 8


class Colours(TensorDataset):
    """Images of one colour each, so that crops and flips change nothing; red tells the class."""

    def __init__(self, n: int, seed: int, n_classes: int = 3) -> None:
        self.config = Dataset.Config(name="colours", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % n_classes
        colours = torch.randint(0, 256, (n, 3), generator=generator)
        colours[:, 0] = (colours[:, 0] + 3 * 255 * labels // (n_classes - 1)) // 4
        images = colours.byte()[:, :, None, None].expand(-1, -1, SIZE, SIZE)
        self.hold(images, 10 * labels + 3, [])

    def inputs(self) -> NDArray[np.float64]:
        """Normalised colours, `(N, 3)`."""
        return (self.images[:, :, 0, 0].double().numpy() / 255 - 0.5) / 0.25


class Mixed(Backbone):
    """A linear map of the mean colour."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 12).view(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.linear(images.mean(dim=(2, 3)))
        return found


def subject(backbone: Backbone | None = None, n: int = 40, *, size: int = SIZE) -> Subject:
    return Subject(
        Mixed() if backbone is None else backbone,
        Colours(n, 0), Colours(21, 1), size, torch.device("cpu"),
    )  # fmt: skip


def linear(**settings: Any) -> LinearSgd:
    return LinearSgd(LinearSgd.Config(**{"n_resamples": 100, "global_batch_size": 16, **settings}))


def finetune(**settings: Any) -> Finetune:
    return Finetune(Finetune.Config(**{"n_resamples": 100, "global_batch_size": 16, **settings}))


def reference(
    rows: NDArray[np.int64], *, epochs: int, rates: Any, batch: int, decay: float, head: nn.Linear
) -> list[float]:
    """Returns the mean loss of each epoch, by SGD written out in float64.

    Args:
        rates: learning rates of head and backbone in an epoch.
        head: its first state.
    """
    whole = Colours(40, 0)
    inputs, labels = whole.inputs()[rows], (np.arange(40) % 3)[rows]
    mixing = np.linspace(-1, 1, 12).reshape(4, 3)
    weight, bias = (p.detach().double().numpy().copy() for p in (head.weight, head.bias))
    speeds: list[Any] = [0.0, 0.0, 0.0]
    losses = []
    for epoch in range(epochs):
        order = random.permutation(len(rows), 0, epoch).numpy()
        found = []
        for start in range(0, len(rows) // batch * batch, batch):
            x, y = inputs[order[start : start + batch]], labels[order[start : start + batch]]
            features = x @ mixing.T
            scores = features @ weight.T + bias
            logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            found.append(-logs[np.arange(batch), y].mean())
            error = np.exp(logs)
            error[np.arange(batch), y] -= 1
            error /= batch
            slopes = [error.T @ features, error.sum(axis=0), (error @ weight).T @ x]
            for place, (value, slope) in enumerate(
                zip((weight, bias, mixing), slopes, strict=True)
            ):
                speeds[place] = 0.9 * speeds[place] + slope + decay * value
                value -= rates(epoch)[place == 2] * speeds[place]
        losses.append(float(np.mean(found)))
    return losses


def test_the_linear_recipe_is_that_of_a_loop_written_out() -> None:
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    expected = reference(
        np.arange(40), epochs=6, batch=16, decay=0.01, head=head,
        rates=lambda epoch: (2.0 * 16 / 256 * (1 + math.cos(math.pi * epoch / 6)) / 2, 0),
    )  # fmt: skip
    found = linear(epochs=6, lr=2.0, weight_decay=0.01).evaluate_images(subject())
    assert found.details["loss_by_epoch"] == pytest.approx(expected, rel=1e-5)
    assert found.details["steps"] == 12


def test_the_fine_tuning_recipe_is_that_of_a_loop_written_out() -> None:
    torch.manual_seed(0)
    rows = balanced(np.arange(40) % 3, 0.5, seed=0)
    factors = [1, 1, 1, 0.2, 0.04]  # of 5 epochs, from the 4th and from the 5th on
    expected = reference(
        rows, epochs=5, batch=16, decay=0.0, head=nn.Linear(4, 3),
        rates=lambda epoch: (0.2 * 16 / 256 * factors[epoch], 0.01 * 16 / 256 * factors[epoch]),
    )  # fmt: skip
    found = finetune(epochs=5, fraction=0.5).evaluate_images(subject())
    assert found.details["loss_by_epoch"] == pytest.approx(expected, rel=1e-5)
    assert found.details["n_labelled"] == len(rows) == 19


def test_learning_rates_depend_on_the_fraction() -> None:
    few = finetune(fraction=0.01, epochs=1).evaluate_images(subject()).protocol
    many = finetune(fraction=0.1, epochs=1).evaluate_images(subject()).protocol
    own = finetune(fraction=0.1, epochs=1, head_lr=1, backbone_lr=2).evaluate_images(subject())
    assert (few["head_lr"], few["backbone_lr"]) == (5.0, 0.02)
    assert (many["head_lr"], many["backbone_lr"]) == (0.2, 0.01)
    assert (own.protocol["head_lr"], own.protocol["backbone_lr"]) == (1, 2)


@pytest.mark.parametrize("make", [linear, finetune])
def test_the_subject_is_as_before(make: Any) -> None:
    backbone = tiny_backbone()
    backbone.train()
    before = copy.deepcopy(backbone.state_dict())
    state = torch.random.get_rng_state()
    make(epochs=1).evaluate_images(subject(backbone, size=16))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert backbone.training
    assert torch.equal(torch.random.get_rng_state(), state)


class Watched(Mixed):
    """Notes the modes that it was called in."""

    seen: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(self.training)
        return super().forward(images)


@pytest.mark.parametrize(("make", "modes"), [(linear, {False}), (finetune, {True, False})])
def test_a_frozen_backbone_is_in_eval_mode(make: Any, modes: set[bool]) -> None:
    Watched.seen.clear()
    make(epochs=1).evaluate_images(subject(Watched()))
    assert set(Watched.seen) == modes


@pytest.mark.parametrize("make", [linear, finetune])
def test_colours_are_learnt(make: Any) -> None:
    found: Scores = make(epochs=60, lr=5.0).evaluate_images(subject()) if make is linear else (
        make(epochs=60, fraction=1.0, head_lr=5.0).evaluate_images(subject())
    )  # fmt: skip
    assert found.values["top1"] > 60  # chance is 33
    assert found.details["loss_by_epoch"][-1] < found.details["loss_by_epoch"][0]
    assert found.values["top1"] == pytest.approx(100 * found.outcomes["top1"].mean())
    assert len(found.outcomes["top1"]) == 21


@pytest.mark.parametrize("make", [linear, finetune])
def test_equal_seeds_give_equal_scores(make: Any) -> None:
    first, again, other = (
        make(epochs=2).evaluate_images(subject(), seed=seed).details for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def score_on_ranks() -> tuple[dict[str, Any], NDArray[np.bool_]]:
    found = linear(epochs=4, lr=2.0).evaluate_images(subject())
    return found.details, found.outcomes["top1"]


@pytest.mark.distributed
def test_two_ranks_train_as_one_does() -> None:
    details, hits = score_on_ranks()
    for found, found_hits in run_on_ranks(score_on_ranks, 2):
        assert found["loss_by_epoch"] == pytest.approx(details["loss_by_epoch"], rel=1e-5)
        np.testing.assert_array_equal(found_hits, hits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: finetune(), "finetune runs in one process, not 2"),
        (lambda: linear(global_batch_size=15), "a batch of 15 images cannot be split over 2"),
    ],
)
def test_what_two_ranks_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Any, message: str
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match=message) as raised:
        make().evaluate_images(subject())
    assert raised.value.on_all_ranks


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    found = finetune(fraction=0.01, global_batch_size=256, epochs=3).evaluate_images(subject())
    assert found.details["n_labelled"] == 3  # one of each class
    assert found.details["steps"] == 3


def test_a_fraction_is_the_same_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 20, 3])
    rows = balanced(labels, 0.1, seed=0)
    assert np.bincount(labels[rows]).tolist() == [10, 2, 1]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, balanced(labels, 0.1, seed=0))
    assert not np.array_equal(rows, balanced(labels, 0.1, seed=1))


def test_all_labels_are_all_images() -> None:
    np.testing.assert_array_equal(balanced(np.arange(10) % 3, 1.0, seed=0), np.arange(10))


def test_a_test_class_that_train_lacks_is_wrong() -> None:
    given = subject()
    assert given.test.labels is not None
    given.test.labels[:7] = 99
    found = linear(epochs=1).evaluate_images(given)
    assert not found.outcomes["top1"][:7].any()
    assert found.details["top1_by_class"]["99"] == 0


def test_digest_depends_on_settings_and_not_on_the_seed() -> None:
    digests = {
        evaluator.evaluate_images(subject(), seed=seed).protocol["digest"]
        for evaluator, seed in (
            (linear(epochs=1), 0), (linear(epochs=1, n_resamples=200), 1),
            (linear(epochs=2), 0), (linear(epochs=1, lr=0.1), 0), (finetune(epochs=1), 0),
        )
    }  # fmt: skip
    assert len(digests) == 4


@pytest.mark.parametrize("evaluator", [linear(epochs=1), finetune(epochs=1)])
def test_labels_are_needed(evaluator: ImageEvaluator) -> None:
    for split in ("train", "test"):
        given = subject()
        getattr(given, split).labels = None
        with pytest.raises(UserError, match=f"needs labels, but the {split} split has none"):
            evaluator.evaluate_images(given)


def test_one_class_is_refused() -> None:
    given = subject()
    assert given.train.labels is not None
    given.train.labels[:] = 3
    with pytest.raises(UserError, match="at least 2 classes"):
        linear().evaluate_images(given)


def test_images_of_several_classes_are_refused() -> None:
    given = subject()
    given.train.labels = torch.ones(40, 5, dtype=torch.int64)
    with pytest.raises(UserError, match="5 classes per image; use svm"):
        finetune().evaluate_images(given)


def test_a_diverging_loss_is_an_error() -> None:
    with pytest.raises(UserError, match="lower the learning rate"):
        finetune(epochs=30, fraction=1.0, head_lr=1000, backbone_lr=1000).evaluate_images(
            subject()
        )


def test_a_loss_above_chance_level_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        linear(epochs=1, lr=0.1).evaluate_images(subject())
        assert caplog.text == ""
        linear(epochs=2, lr=900.0).evaluate_images(subject())
    assert "lower the learning rate" in caplog.text


class Fixed(Mixed):
    """Adds numbers that no training changes, as positions may be."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = super().forward(images) + self.shift
        return self.seen


def test_what_a_backbone_holds_fixed_is_not_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    step = torch.optim.SGD.step

    def watched(optimizer: torch.optim.SGD, *args: Any) -> Any:
        trained.append([p.shape for group in optimizer.param_groups for p in group["params"]])
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    finetune(epochs=1, fraction=1.0).evaluate_images(subject(Fixed()))
    assert trained
    assert all((4,) not in shapes for shapes in trained)


class Holed(Colours):
    """Lacks its first image."""

    def load(self, indices: Tensor) -> Any:
        return [None if place == 0 else self.images[place] for place in indices.tolist()]

    @property
    def in_memory(self) -> bool:  # type: ignore[override]
        return False


def complaint_on_ranks(split: str) -> str:
    parts = {"train": Colours(40, 0), "test": Colours(21, 1), split: Holed(40, 0)}
    holed = Subject(Mixed(), parts["train"], parts["test"], SIZE, torch.device("cpu"))
    with pytest.raises(UserError) as caught:
        linear(epochs=1).evaluate_images(holed)
    return str(caught.value) if caught.value.on_all_ranks else "on one rank alone"


@pytest.mark.distributed
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_one_rank_cannot_read_is_an_error_on_all(split: str) -> None:
    one, other = run_on_ranks(complaint_on_ranks, 2, split)
    assert one == other
    assert "image 0" in one
