"""CIFAR-10, CIFAR-100 and STL-10, read by torchvision and kept in memory."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.data.base import DATASETS, RGBConfig, Split
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.errors import UserError

Triple = tuple[float, float, float]


class _TorchvisionConfig(RGBConfig):
    root: str = "data"
    """Folder with the extracted files."""
    download: bool = False
    """Whether to download missing files into `root`."""
    limit: int | None = Field(default=None, ge=1)
    """Number of training images to use, the first in the official order; all by default."""


def _open(config: Any, build: Callable[..., Any], **arguments: Any) -> Any:
    """Opens a torchvision data set.

    Raises:
        UserError: the files are missing or damaged, or cannot be downloaded.
    """
    try:
        return build(root=config.root, download=config.download, **arguments)
    except (RuntimeError, OSError) as error:
        if config.download:
            raise UserError(
                f"{config.name} could not be downloaded into '{config.root}': {error}"
            ) from None
        raise UserError(
            f"folder '{config.root}' does not contain a complete {config.name}; set data.root to the "
            "folder with the extracted files, or data.download=true to download them"
        ) from None


def _kept(config: Any, n_images: int, split: Split) -> int:
    """Returns the number of images to use.

    Raises:
        UserError: the limit is above the number of images.
    """
    if split == "test" or config.limit is None:
        return n_images
    limit: int = config.limit
    if limit > n_images:
        raise UserError(
            f"data.limit of {limit} is above the {n_images} training images of {config.name}; lower it"
        )
    return limit


class _Cifar(TensorDataset):
    def _read(self, config: Any, split: Split, build: Callable[..., Any]) -> None:
        self.config = config
        found = _open(config, build, train=split == "train")
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2)
        labels = torch.tensor(found.targets, dtype=torch.int64)
        kept = _kept(config, len(images), split)
        self.hold(images[:kept], labels[:kept], list(found.classes))


@DATASETS.register
class Cifar10(_Cifar):
    """60,000 photographs of 32x32 pixels in 10 classes."""

    class Config(_TorchvisionConfig):
        """Settings of CIFAR-10."""

        name: Literal["cifar10"] = "cifar10"
        """Registered name."""
        mean: Triple = (0.4914, 0.4822, 0.4465)
        """Mean of the training images."""
        std: Triple = (0.2470, 0.2435, 0.2616)
        """Standard deviation of the training images."""

    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009)"

    def __init__(self, config: Config, *, split: Split) -> None:
        from torchvision.datasets import CIFAR10

        self._read(config, split, CIFAR10)


@DATASETS.register
class Cifar100(_Cifar):
    """60,000 photographs of 32x32 pixels in 100 classes."""

    class Config(_TorchvisionConfig):
        """Settings of CIFAR-100."""

        name: Literal["cifar100"] = "cifar100"
        """Registered name."""
        mean: Triple = (0.5071, 0.4866, 0.4409)
        """Mean of the training images."""
        std: Triple = (0.2673, 0.2564, 0.2762)
        """Standard deviation of the training images."""

    source: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009)"

    def __init__(self, config: Config, *, split: Split) -> None:
        from torchvision.datasets import CIFAR100

        self._read(config, split, CIFAR100)


@DATASETS.register
class Stl10(TensorDataset):
    """Photographs of 96x96 pixels in 10 classes: 13,000 labelled, 100,000 unlabelled."""

    class Config(_TorchvisionConfig):
        """Settings of STL-10."""

        name: Literal["stl10"] = "stl10"
        """Registered name."""
        train_split: Literal["train", "unlabeled", "train+unlabeled"] = "train+unlabeled"
        """Training images; only `train` has labels for all of them."""
        mean: Triple = (0.4467, 0.4398, 0.4066)
        """Mean of the labelled training images."""
        std: Triple = (0.2603, 0.2566, 0.2713)
        """Standard deviation of the labelled training images."""

    source: ClassVar[str] = "https://cs.stanford.edu/~acoates/stl10 (Coates, Ng and Lee, 2011)"

    def __init__(self, config: Config, *, split: Split) -> None:
        from torchvision.datasets import STL10

        self.config = config
        part = "test" if split == "test" else config.train_split
        found = _open(config, STL10, split=part)
        labels: Tensor | None = None
        if part in ("train", "test"):
            labels = torch.from_numpy(found.labels).to(torch.int64)
        names = [] if labels is None else list(found.classes)
        kept = _kept(config, len(found.data), split)
        images = torch.from_numpy(found.data)[:kept]
        self.hold(images, None if labels is None else labels[:kept], names)
