"""Names that fit and stay apart."""

import pytest

from ssl_zoo.report.short_names import DOTS, LEAST, short_names

LONG = [
    "runs/2026-11-30/swav-digits_affine-0123456789ab-tiny_resnet-seed0",
    "runs/2026-11-30/swav-digits_affine-0123456789ab-tiny_resnet-seed1",
    "runs/2026-11-30/simclr-digits_affine-0123456789ab-tiny_resnet-seed0",
]
IN_THE_MIDDLE = [f"{'a' * 30}{letter}{'z' * 30}" for letter in "bcdefghijklm"]
LAYERS = [f"{'x' * 40}/{number}/{'y' * 40}" for number in range(12)]


def test_names_that_fit_stay_as_they_are() -> None:
    assert short_names(["runs/swav", "runs/simclr"], 12) == ["runs/swav", "runs/simclr"]


def test_folders_that_all_share_go_first() -> None:
    assert short_names(["runs/first/swav", "runs/first/simclr"], 10) == ["swav", "simclr"]


def test_a_long_name_loses_its_middle() -> None:
    assert short_names(["swav", "0123456789"], 9) == ["swav", f"0123{DOTS}6789"]


@pytest.mark.parametrize("names", [LONG, IN_THE_MIDDLE, LAYERS, [*LONG, LONG[0]], ["a" * 99]])
@pytest.mark.parametrize("width", [LEAST, 10, 16, 30, 60, 120])
def test_names_fit_and_no_two_become_equal(names: list[str], width: int) -> None:
    short = short_names(names, width)
    assert max(map(len, short)) <= width
    assert len(set(short)) == len(set(names))
