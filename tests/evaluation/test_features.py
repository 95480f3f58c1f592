import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.view import ViewSpec
from ssl_zoo.evaluators.base import Features
from tests.distributed import run_on_ranks


class Images(Dataset):
    """Image `i` is grey of value `i`; some cannot be decoded."""

    def __init__(
        self,
        n: int,
        *,
        broken: tuple[int, ...] = (),
        max_corrupt: int | None = None,
        labelled: bool = True,
    ) -> None:
        self.config = Dataset.Config(name="images", mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
        self.labels = torch.arange(n) % 3 if labelled else None
        self.class_names = ["a", "b", "c"]
        self.in_memory = True
        self.max_corrupt = n if max_corrupt is None else max_corrupt
        self.n, self.broken = n, broken

    def __len__(self) -> int:
        return self.n

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        grey = indices.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        if not self.broken:
            return grey
        places = indices.tolist()
        return [
            None if place in self.broken else image
            for place, image in zip(places, grey, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        return f"{self.n:016x}"


class Means(nn.Module):
    """Returns the mean of each channel: a feature that tells which image it saw."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def expected(indices: list[int]) -> Tensor:
    grey = torch.tensor(indices).view(-1, 1) / 255
    return (grey - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.5, 0.25, 0.2])


def run(backbone: nn.Module, dataset: Dataset, **settings: Any) -> Features:
    view = ViewSpec(8, precision=settings.pop("precision", "fp32"))
    return extract(backbone, dataset, view, **{"batch_size": 4, **settings})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_features_are_of_normalised_images_in_order(batch_size: int) -> None:
    features = run(Means(), Images(10), batch_size=batch_size)
    torch.testing.assert_close(torch.from_numpy(features.values), expected(list(range(10))))
    assert features.labels is not None
    assert features.labels.tolist() == [0, 1, 2] * 3 + [0]


def test_images_without_labels_have_features() -> None:
    assert run(Means(), Images(3, labelled=False)).labels is None


def test_images_are_resized() -> None:
    features = extract(Means(), Images(3), ViewSpec(5))
    torch.testing.assert_close(torch.from_numpy(features.values), expected([0, 1, 2]))


def test_broken_images_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        features = run(Means(), Images(10, broken=(0, 1, 2, 3, 7)))
    torch.testing.assert_close(torch.from_numpy(features.values), expected([4, 5, 6, 8, 9]))
    assert features.labels is not None
    assert features.labels.tolist() == [1, 2, 0, 2, 0]
    assert "cannot decode 'image 0'" in caplog.text


def test_more_broken_images_than_the_data_set_allows_are_an_error() -> None:
    with pytest.raises(UserError, match="2 of 10 images cannot be decoded"):
        run(Means(), Images(10, broken=(0, 1), max_corrupt=1))


def test_only_broken_images_are_an_error() -> None:
    with pytest.raises(UserError, match="none of the 2 images can be decoded"):
        run(Means(), Images(2, broken=(0, 1)))


def test_extraction_leaves_the_backbone_as_it_was() -> None:
    backbone = network().train()
    backbone[1].eval()  # a frozen layer in a network that trains
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    run(backbone, Images(10))
    assert [module.training for module in backbone] == [True, False, True, True, True]
    assert backbone.training
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_features_are_those_of_eval_mode() -> None:
    backbone = network().train()
    first, again = run(backbone, Images(10)), run(backbone, Images(10), batch_size=3)
    torch.testing.assert_close(
        torch.from_numpy(first.values), torch.from_numpy(again.values)
    )  # neither dropout nor the statistics of a batch


def test_modes_are_restored_after_a_failure() -> None:
    class Fails(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("no")

    backbone = nn.Sequential(nn.BatchNorm2d(3), Fails()).train()
    backbone[0].eval()
    with pytest.raises(RuntimeError, match="no"):
        run(backbone, Images(4))
    assert [backbone.training, backbone[0].training, backbone[1].training] == [True, False, True]
    assert torch.is_grad_enabled()


def test_training_continues_after_extraction() -> None:
    backbone = network().train()
    run(backbone, Images(4))
    backbone(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("n_workers", [0, 1])
def test_random_states_stay(n_workers: int) -> None:
    class Noise(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.rand(len(images), 2)

    images = Images(4)
    images.in_memory = n_workers == 0  # starting loader processes draws a number
    before = torch.get_rng_state()
    run(Noise(), images, num_workers=n_workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_lower_precision_gives_close_float32_features() -> None:
    backbone = network()
    exact, rough = (run(backbone, Images(10), precision=p) for p in ("fp32", "bf16"))
    assert rough.values.dtype == exact.values.dtype
    torch.testing.assert_close(
        torch.from_numpy(rough.values), torch.from_numpy(exact.values), atol=0.02, rtol=0.02
    )
    assert (rough.values != exact.values).any()


def test_full_precision_is_full_within_autocast() -> None:
    backbone = network()
    exact = run(backbone, Images(10))
    with torch.autocast("cpu", torch.bfloat16):
        inside = run(backbone, Images(10))
    assert (inside.values == exact.values).all()


def test_a_backbone_that_returns_maps_is_refused() -> None:
    with pytest.raises(UserError, match=r"returns \(4, 3, 8, 8\) for 4 images"):
        run(nn.Identity(), Images(10))


def _extract_here(n: int, broken: tuple[int, ...]) -> Features:
    return run(Means(), Images(n, broken=broken), batch_size=2)


@pytest.mark.distributed
@pytest.mark.parametrize(("n", "broken"), [(8, ()), (7, ()), (1, ()), (7, (2, 6)), (4, (2, 3))])
def test_two_ranks_see_each_image_once(n: int, broken: tuple[int, ...]) -> None:
    alone = _extract_here(n, broken)
    assert alone.labels is not None
    both = run_on_ranks(_extract_here, 2, n, broken)
    assert both[0].values.tolist() == alone.values.tolist()
    assert both[1].values.shape == alone.values.shape
    assert np.isnan(both[1].values).all()  # rank 0 has them
    for features in both:
        assert features.labels.tolist() == alone.labels.tolist()


def _fail_here() -> str:
    with pytest.raises(UserError) as caught:
        run(Means(), Images(8, broken=(6,), max_corrupt=0))
    return str(caught.value)


@pytest.mark.distributed
def test_an_error_of_one_rank_stops_all() -> None:
    first, second = run_on_ranks(_fail_here, 2)
    assert "'image 6'" in first
    assert first == second
