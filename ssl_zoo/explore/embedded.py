"""`Embedded`: what a file of features says about them."""

from typing import Any, ClassVar

from pydantic import Field

from ssl_zoo.evaluation.records import Document, Record
from ssl_zoo.evaluation.result import View


class EmbeddedSplit(Record):
    """Images of one split of a data set, or of a folder."""

    split: str
    """`train` or `test`; `all` for a whole folder."""
    fingerprint: str
    """Digest of its contents."""
    n_images: int
    """Number of images that could be read; each has a row."""
    unreadable: dict[str, str] = {}
    """Images that could not be read, with the reason; these have no row. The reason is empty if an
    image cannot be decoded."""


class Embedded(Document):
    """The features of images, and how they were made."""

    VERSION: ClassVar[int] = 1
    WRITTEN_BY: ClassVar[str] = "ssl-zoo embed CHECKPOINT DATA -o FILE"

    schema_version: int = Field(default=1, ge=1)
    """Version of these fields."""
    checkpoint: str
    """Checkpoint whose features these are."""
    weights: str
    """Digest of the weights."""
    method: str | None
    """Method that the network was trained with, if known."""
    backbone: dict[str, Any]
    """Settings of the network."""
    data: dict[str, Any]
    """Settings of the data set, its normalisation among them."""
    splits: tuple[EmbeddedSplit, ...]
    """The images, in the order of the rows."""
    view: View
    """How the images were presented to the network, and the layer."""
    dim: int
    """Length of a feature."""
    normalized: bool = False
    """Whether features have length 1."""
    n_patches: int | None = None
    """Number of patch features of an image, in reading order; None for one feature per image."""
    grid: tuple[int, int] | None = None
    """Rows and columns of patches, if known."""
    columns: tuple[str, ...] = ()
    """Columns before the features."""
    seconds: float = 0.0
    """Duration, in seconds."""
    date: str = ""
    """When it was finished, in UTC."""
    provenance: dict[str, str] = {}
    """Versions of the software, and the hardware."""

    @property
    def n_images(self) -> int:
        """Number of rows."""
        return sum(split.n_images for split in self.splits)

    @property
    def unreadable(self) -> dict[str, str]:
        """All images without a row, with the reason."""
        return {name: why for split in self.splits for name, why in split.unreadable.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the feature of an image: `(D,)`, or `(T, D)` of patches."""
        return (self.dim,) if self.n_patches is None else (self.n_patches, self.dim)
