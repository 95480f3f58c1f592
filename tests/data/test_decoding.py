"""Image files of all kinds, with the channels and bits of their data set."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ssl_zoo.data import decoding
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.decoding import check_packages, read_image
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.errors import UserError

RNG = np.random.default_rng(0)
PHOTO: NDArray[np.uint8] = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
FINE: NDArray[np.uint16] = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


def read(path: Path, **settings: Any) -> Tensor:
    channels = settings.get("channels", 3)
    plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    return read_image(path, Dataset.Config(name="test", **plain, **settings))


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif", "webp", "gif"])
def test_colours_are_read_as_they_are(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PHOTO).save(path)
    found = read(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, np.array(Image.open(path).convert("RGB")))


def test_pixels_are_in_channels_last_order_as_views_need_them(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    Image.fromarray(PHOTO[:, :, 0]).save(tmp_path / "b.png")
    assert read(tmp_path / "a.png").permute(1, 2, 0).is_contiguous()
    assert read(tmp_path / "b.png").permute(1, 2, 0).is_contiguous()


def test_a_turned_photograph_comes_upright(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), dtype=np.uint8)
    wide[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(wide).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = read(tmp_path / "a.jpg")
    assert found.shape == (3, 32, 16)
    assert float(found[:, :12].float().mean()) > 250
    assert float(found[:, 20:].float().mean()) < 5


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_that_of_pillow(
    orientation: int, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=exif)
    if not fast:
        monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").permute(1, 2, 0), np.array(expected))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [True, False])
def test_jpeg_is_decoded_to_the_values_of_pillow(
    mode: str, subsampling: int, progressive: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    big = RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)
    image = Image.fromarray(big).resize((83, 51)).convert(mode)
    image.save(path, quality=80, subsampling=subsampling, progressive=progressive)
    expected = np.array(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read(path).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    ("shrink_to", "size"),
    [(None, (303, 401)), (152, (152, 201)), (153, (303, 401)), (76, (76, 101)), (16, (38, 51))],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_jpeg_may_be_decoded_at_a_part_of_its_size(
    mode: str,
    shrink_to: int | None,
    size: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)
    Image.fromarray(big).resize((401, 303)).convert(mode).save(tmp_path / "a.jpg")
    settings = Dataset.Config(name="test")
    found = read_image(tmp_path / "a.jpg", settings, shrink_to=shrink_to)
    assert found.shape == (3, *size)
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    assert torch.equal(read_image(tmp_path / "a.jpg", settings, shrink_to=shrink_to), found)


def test_files_of_other_kinds_are_decoded_at_full_size(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).resize((90, 60)).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", Dataset.Config(name="test"), shrink_to=16)
    assert found.shape == (3, 60, 90)


def test_a_jpeg_that_is_cut_off_is_bad(tmp_path: Path) -> None:
    Image.fromarray(np.tile(PHOTO, (20, 20, 1))).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadImage):
        read(tmp_path / "a.jpg")


def test_an_upright_photograph_is_read_bit_for_bit_as_pillow_does(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg")
    expected = np.array(Image.open(tmp_path / "a.jpg").convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").permute(1, 2, 0).numpy(), expected)


def test_the_first_frame_of_a_gif_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (200, 10)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read(tmp_path / "a.gif").tolist() == [[[200] * 4] * 4] * 3


def test_opacity_is_a_channel_of_four(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", channels=4)
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_16_bits_is_divided_by_65535(ending: str, tmp_path: Path) -> None:
    if ending == "tif":
        pytest.importorskip("tifffile")
    Image.fromarray(FINE).save(tmp_path / f"a.{ending}")
    found = read(tmp_path / f"a.{ending}", channels=1, bits=16)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), FINE / 65535, atol=1e-7)


def test_grey_of_16_bits_is_expanded_to_three_channels(tmp_path: Path) -> None:
    Image.fromarray(FINE).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", bits=16).shape == (3, 6, 9)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_in_a_png_are_not_cut_off(channels: int, tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values))
    found = read(tmp_path / "a.png", channels=channels, bits=16)
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), values / 65535, atol=1e-7)


def test_a_range_of_values_becomes_0_to_1(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 2000, 4095, 5000]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", channels=1, bits=16, value_range=(1000, 3000))
    np.testing.assert_allclose(found[0, 0].numpy(), [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_values_that_are_not_finite_is_bad(value: float, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 4), value, dtype=np.float32))
    with pytest.raises(BadImage, match="values that are not finite"):
        read(tmp_path / "a.npy", channels=1, bits=32)


@pytest.mark.parametrize(
    ("dtype", "settings", "message"),
    [
        (np.uint16, {}, "has 16 bits, but data.bits=8; set data.bits=16"),
        (np.uint8, {"bits": 16}, "has 8 bits, but data.bits=16; set data.bits=8"),
        (np.float32, {}, "has values of type float32, but data.bits=8; set data.bits=32"),
        (">u2", {}, "has 16 bits, but data.bits=8; set data.bits=16"),
        (np.int16, {"bits": 16}, "has values of type int16, but data.bits=16; set data.bits=32"),
    ],
)
def test_other_bits_are_refused(
    dtype: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 3), dtype))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.npy", **settings)


def test_colours_of_16_bits_are_refused_where_8_are_expected(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of_16_bits(np.zeros((5, 7, 3), np.uint16)))
    with pytest.raises(UserError, match=r"a.png' has 16 bits, but data.bits=8; set data.bits=16"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("channels", "found", "wanted"),
    [(3, "3 channels", 1), (3, "3 channels", 4), (1, "1 channel", 4)],
)
def test_other_channels_are_refused(
    channels: int, found: str, wanted: int, tmp_path: Path
) -> None:
    image = Image.fromarray(PHOTO if channels == 3 else PHOTO[:, :, 0])
    image.save(tmp_path / "a.png")
    message = rf"has {found}, but data.channels={wanted}; set data.channels={channels}"
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.png", channels=wanted)


def test_a_damaged_file_is_bad_without_a_reason(tmp_path: Path) -> None:
    for name in ("a.png", "a.gif", "a.npy"):
        (tmp_path / name).write_bytes(b"\x89PNG nothing")
        with pytest.raises(BadImage, match="^$"):
            read(tmp_path / name)


def test_a_tiff_that_only_tifffile_may_read_is_bad_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0 nothing")
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(BadImage, match=r"perhaps by tifffile: pip install"):
        read(tmp_path / "a.tif")


def test_grey_with_opacity_in_16_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of_16_bits(np.zeros((5, 7, 2), np.uint16)))
    with pytest.raises(UserError, match=r"grey with opacity in 16 bits.*remove the opacity"):
        read(tmp_path / "a.png", bits=16)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.heic", "pillow-heif.*ssl-zoo\\[heic\\]"), ("a.DCM", "pydicom.*ssl-zoo\\[dicom\\]")],
)
def test_a_missing_package_is_named(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(UserError, match=f"need {message}"):
        check_packages([name])


def test_heic_is_read(tmp_path: Path) -> None:
    heif: Any = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "a.heic", quality=100)
    found = read(tmp_path / "a.heic")
    assert found.shape == (3, 16, 16)
    assert np.abs(found[:, 8, 8].numpy().astype(int) - [200, 100, 50]).max() <= 3


def png_of_16_bits(values: NDArray[np.uint16]) -> bytes:
    """Returns a PNG of `(H, W, C)`, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
