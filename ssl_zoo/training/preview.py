"""A sheet of the views that training will see: the same images, keys and parameters as its first batch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.provenance import provenance
from ssl_zoo.training.build import build_loader

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = 8
"""Space around pictures, in pixels."""
TEXT = 13
"""Height of letters, in pixels."""
SEEN_WELL = 128
"""Views smaller than this are enlarged by a whole factor, so that their pixels can be seen."""
PAPER, INK, HIDDEN = (255, 255, 255), (60, 60, 60), (128, 128, 128)
KEY = "ssl_zoo"
"""Name of the text in a PNG that says what it shows."""


def preview(config: RunConfig, output: Path, *, n_images: int = 8) -> dict[int, int]:
    """Writes the first images of a run and all their views as a PNG, one row per image.

    A row has the original, each view, and the first view with its masked patches in grey if the
    augmentation draws masks.

    Args:
        config: the run.
        output: file to write.
        n_images: number of rows; at most those of a batch.

    Returns:
        The number of views of each size.

    Raises:
        UserError: the data does not exist or has too few images, or the file cannot be written.
    """
    dataset: Dataset = DATASETS.build(config.data, split="train")
    loader = build_loader(config, dataset, torch.device("cpu"))
    batch = loader.first(n_images)
    facts = {
        "config": config.digest(),
        "seed": config.seed,
        "index": batch.index.tolist(),
        "provenance": provenance(),
    }
    _save(draw(dataset, batch), output, facts)
    return loader.augmentation.view_counts


def draw(dataset: Dataset, batch: LoadedBatch) -> "Image":
    """Returns the sheet of a batch; see `preview`."""
    from PIL import Image

    sizes = [group.shape[-1] for group in batch.views]
    zoom = max(1, SEEN_WELL // max(sizes))
    side = zoom * max(sizes)
    rows = [_row(dataset, batch, place, side, zoom) for place in range(len(batch.index))]
    widths = [max(picture.width for picture, _ in column) for column in zip(*rows, strict=True)]
    height = side + TEXT + 2 * GAP
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) + 1), height * len(rows)), PAPER)
    for number, row in enumerate(rows):
        left = GAP
        for (picture, text), width in zip(row, widths, strict=True):
            sheet.paste(picture, (left, GAP + height * number))
            below = GAP + height * number + picture.height + 2
            _write(sheet, (left, below), text, width)
            left += width + GAP
    return sheet


def _row(
    dataset: Dataset, batch: LoadedBatch, place: int, side: int, zoom: int
) -> "list[tuple[Image, str]]":
    """Returns the pictures of an image, with a text for each."""
    index = int(batch.index[place])
    original = dataset.load(batch.index[place : place + 1])[0]
    assert original is not None  # it has just been read
    name = Path(dataset.file_name(index) or dataset.describe(index)).name
    height, width = original.shape[-2:]
    found = [(_fitted(original, side), f"{width}x{height} {name}")]
    views = [view for group in batch.views for view in group[:, place].cpu()]
    found += [(_enlarged(view, zoom), f"{view.shape[-1]}") for view in views]
    if batch.masks is not None:
        for view, mask in zip(views, batch.masks[place].cpu(), strict=False):  # the first M views
            hidden = masked(view, mask)
            found.append((_enlarged(hidden, zoom), f"{hidden.shape[-1]} masked"))
    return found


def masked(view: Tensor, mask: Tensor) -> Tensor:
    """Returns a view `(C, S, S)` with its masked patches in grey.

    Args:
        mask: True for masked patches, in reading order, `(L,)` bool.
    """
    side = round(len(mask) ** 0.5)
    patch = view.shape[-1] // side
    hidden = mask.view(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    grey = torch.full_like(view, HIDDEN[0])
    return torch.where(hidden, grey, view)


def _fitted(pixels: Tensor, side: int) -> "Image":
    """Returns a whole image whose longer side is `side`."""
    from PIL import Image

    image = _picture(pixels)
    scale = side / max(image.size)
    size = [max(1, round(scale * length)) for length in image.size]
    how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return image.resize((size[0], size[1]), how)


def _enlarged(pixels: Tensor, zoom: int) -> "Image":
    from PIL import Image

    image = _picture(pixels)
    return image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)


def _picture(pixels: Tensor) -> "Image":
    """Returns an image of a tensor `(C, H, W)`, uint8 or in [0, 1].

    Of other channels than three, the first are shown.
    """
    from PIL import Image

    shown = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    if shown.is_floating_point():
        shown = shown.mul(255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())


def _write(sheet: "Image", place: tuple[int, int], text: str, width: int) -> None:
    """Writes a text that is cut off at a width."""
    from PIL import ImageDraw, ImageFont

    font, pen = ImageFont.load_default(TEXT - 1), ImageDraw.Draw(sheet)
    plain = text.encode("ascii", errors="backslashreplace").decode()
    while plain and pen.textlength(plain, font=font) > width:
        plain = plain[:-1]
    pen.text(place, plain, fill=INK, font=font)


def _save(sheet: "Image", output: Path, facts: dict[str, Any]) -> None:
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text(KEY, json.dumps(facts))
    aside = output.with_name(f".{output.name}.writing")
    try:
        sheet.save(aside, format="PNG", pnginfo=told)
        aside.replace(output)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"'{output}' cannot be written ({reason})") from None
    finally:
        aside.unlink(missing_ok=True)


def read_preview(file: Path) -> dict[str, Any]:
    """Returns what a sheet of `preview` says about itself.

    Raises:
        UserError: it is another file.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return dict(json.loads(image.info[KEY]))
    except Exception:  # Pillow's decoders raise a dozen types on other files
        raise UserError(f"'{file}' is not a sheet of ssl-zoo preview") from None
