"""Which images are held out for scoring."""

from fractions import Fraction

import numpy as np
import pytest

from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.held_out import HeldOutConfig, held_out, share_of
from ssl_zoo.errors import UserError

NAMES = [f"image-{number}.png".encode() for number in range(100)]
FIFTH = Fraction(1, 5)


@pytest.mark.parametrize(("text", "share"), [("20%", FIFTH), (" 12.5 % ", Fraction(1, 8))])
def test_a_percentage_is_a_share(text: str, share: Fraction) -> None:
    assert share_of(text) == share


@pytest.mark.parametrize("text", ["val", "20", "%", "x20%", "test%"])
def test_other_text_is_not_a_share(text: str) -> None:
    assert share_of(text) is None


@pytest.mark.parametrize("text", ["0%", "100%", "150%"])
def test_a_share_that_leaves_a_split_empty_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="leaves one split empty"):
        share_of(text)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("arrays", "file=x.npz"),
        ("hugging_face", "path=hf:x"),
        ("image_folder", "root=x"),
        ("shards", "root=x"),
        ("table", "file=x.csv"),
    ],
)
def test_settings_of_any_data_refuse_an_empty_split(name: str, where: str) -> None:
    key, _, value = where.partition("=")
    settings = {"name": name, key: value}
    with pytest.raises(UserError, match=f"{name}: test: a share of 0% leaves one split empty"):
        DATASETS.config({**settings, "test": "0%"})
    with pytest.raises(UserError, match="split_seed: -1 should be greater than or equal to 0"):
        DATASETS.config({**settings, "split_seed": -1})
    config = DATASETS.config({**settings, "test": "12.5%"})
    assert isinstance(config, HeldOutConfig)
    assert config.share == Fraction(1, 8)


def test_the_share_holds_for_each_class() -> None:
    labels = np.repeat([0, 1, 2], [50, 40, 10])
    chosen = held_out(NAMES, FIFTH, seed=0, labels=labels)
    assert np.bincount(labels[chosen]).tolist() == [10, 8, 2]


def test_a_class_of_two_images_is_in_both_splits() -> None:
    labels = np.repeat([0, 1], [98, 2])
    assert held_out(NAMES, FIFTH, seed=0, labels=labels)[98:].sum() == 1


def test_the_choice_depends_on_the_seed() -> None:
    first, again, other = (held_out(NAMES, FIFTH, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_the_choice_does_not_depend_on_the_order() -> None:
    chosen = held_out(NAMES, FIFTH, seed=0)
    turned = held_out(NAMES[::-1], FIFTH, seed=0)
    assert (turned[::-1] == chosen).all()


def test_new_images_leave_most_others_where_they_were() -> None:
    more = [*NAMES, *(f"new-{number}.png".encode() for number in range(5))]
    moved = held_out(more, FIFTH, seed=0)[:100] != held_out(NAMES, FIFTH, seed=0)
    assert moved.sum() <= 5


def test_groups_are_never_split_and_meet_the_share_of_each_class() -> None:
    groups = [f"patient {number // 4}" for number in range(100)]
    labels = np.array([number // 4 % 2 for number in range(100)])
    chosen = held_out(NAMES, FIFTH, seed=0, labels=labels, groups=groups)
    assert all(len(set(chosen[start : start + 4])) == 1 for start in range(0, 100, 4))
    assert np.abs(np.bincount(labels[chosen]) - 10).max() <= 4


def test_one_group_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="of 1 groups cannot be held out"):
        held_out(NAMES, FIFTH, seed=0, groups=["all"] * 100)


def test_one_image_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="of 1 images cannot be held out"):
        held_out(NAMES[:1], FIFTH, seed=0)
