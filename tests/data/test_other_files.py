"""Arrays, TIFF of many channels and DICOM."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.data.base import Dataset
from ssl_zoo.data.other_files import read_array, read_dicom, read_tiff
from ssl_zoo.errors import UserError

VALUES: NDArray[np.uint16] = np.random.default_rng(0).integers(0, 4096, (6, 9, 4), dtype=np.uint16)


def wanted(channels: int, bits: int = 16, **settings: Any) -> Dataset.Config:
    plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    return Dataset.Config.model_validate(
        {"name": "test", "channels": channels, "bits": bits, **plain, **settings}
    )


@pytest.mark.parametrize("first", [False, True])
def test_channels_of_an_array_are_the_axis_of_as_many(first: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES.transpose(2, 0, 1) if first else VALUES)
    found = read_array(tmp_path / "a.npy", wanted(4))
    np.testing.assert_array_equal(found.values, VALUES)


def test_the_last_axis_comes_first_where_both_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES[:4])  # (4, 9, 4)
    assert read_array(tmp_path / "a.npy", wanted(4)).values.shape == (4, 9, 4)


def test_an_array_of_two_axes_is_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES[:, :, 0])
    assert read_array(tmp_path / "a.npy", wanted(3)).values.shape == (6, 9, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), "of shape \\(5,\\) is not an image"),
        (np.zeros((4, 9, 9)), "has no axis of data.channels=3; set data.channels=4"),
        (np.zeros((4, 4), complex), "values of type complex128; store uint8, uint16 or float32"),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    values: NDArray[Any], message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=message):
        read_array(tmp_path / "a.npy", wanted(3))


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_samples_and_planes_of_a_tiff_are_channels(layout: str, tmp_path: Path) -> None:
    tifffile: Any = pytest.importorskip("tifffile")
    values = VALUES if layout == "contig" else VALUES.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", values, planarconfig=layout, photometric="minisblack")
    found = read_tiff(tmp_path / "a.tif", wanted(4))
    np.testing.assert_array_equal(found.values, VALUES)
    assert not found.alpha


def test_pages_of_a_microscope_are_channels(tmp_path: Path) -> None:
    tifffile: Any = pytest.importorskip("tifffile")
    planes = VALUES.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", wanted(4)).values, VALUES)


def test_opacity_in_a_tiff_is_known(tmp_path: Path) -> None:
    tifffile: Any = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="rgb", extrasamples=["unassalpha"])
    assert read_tiff(tmp_path / "a.tif", wanted(4)).alpha


def test_a_stack_in_depth_is_refused(tmp_path: Path) -> None:
    tifffile: Any = pytest.importorskip("tifffile")
    stack = np.zeros((2, 4, 6, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(UserError, match=r"has axes ZCYX, but only rows .* split it into images"):
        read_tiff(tmp_path / "a.tif", wanted(4))


def test_a_missing_tifffile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"needs tifffile; install it: pip .*\[tiff\]"):
        read_tiff(tmp_path / "a.tif", wanted(4))


def write_dicom(path: Path, values: NDArray[Any], **tags: Any) -> None:
    pydicom: Any = pytest.importorskip("pydicom")
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.Rows, file.Columns = values.shape
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.preamble = bytes(128)
    file.SamplesPerPixel, file.PixelRepresentation = 1, int(values.dtype.kind == "i")
    file.PhotometricInterpretation = "MONOCHROME2"
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=False)


def test_values_of_a_dicom_are_those_stored(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", VALUES[:, :, 0], RescaleSlope=2, RescaleIntercept=-1024)
    found = read_dicom(tmp_path / "a.dcm", wanted(1))
    np.testing.assert_array_equal(found.values, VALUES[:, :, :1])


def test_values_of_a_dicom_are_rescaled_for_32_bits(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", VALUES[:, :, 0], RescaleSlope=2, RescaleIntercept=-1024)
    found = read_dicom(tmp_path / "a.dcm", wanted(1, bits=32))
    np.testing.assert_array_equal(found.values, 2.0 * VALUES[:, :, :1] - 1024)


def test_an_inverted_dicom_is_inverted_back(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", VALUES[:, :, 0], PhotometricInterpretation="MONOCHROME1")
    found = read_dicom(tmp_path / "a.dcm", wanted(1))
    np.testing.assert_array_equal(found.values, 4095 - VALUES[:, :, :1])
