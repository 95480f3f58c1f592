from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.data.folders import all_images, settings_for
from ssl_zoo.data.shard_files import expanded, matching_shards
from ssl_zoo.errors import UserError
from tests.data import folders
from tests.data.tars import labelled, plain, write_tar


def test_braces_are_expanded_as_in_a_shell() -> None:
    assert expanded("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expanded("{a,b}/{0..1}.tar") == ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]
    assert expanded("a.tar") == ["a.tar"]
    with pytest.raises(UserError, match=r"'\{3..1\}' in 'a\{3..1\}.tar' goes down"):
        expanded("a{3..1}.tar")


def test_shards_of_a_pattern_and_of_a_list_are_found(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", ".c.tar", "d.tar.index"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("# two\nb.tar\n\na.tar\n")
    for pattern, wanted in (("*.tar", ["a", "b"]), ("{b,a}.tar", "ba"), ("list.txt", "ba")):
        found = matching_shards(tmp_path, pattern, setting="data.train")
        assert [path.stem for path in found] == list(wanted)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x*.tar", "no shard in .* is named 'x.*set data.train to .*: a.tar to b.tar"),
        (
            "{a,c,d}.tar",
            "2 of 3 shards of '{a,c,d}.tar' do not exist: .*c.tar', .*d.tar'; restore",
        ),
        ("gone.txt", "list '.*gone.txt' cannot be read: no such file"),
        ("bad.txt", "list '.*bad.txt' names 'a.png', which is not a .tar file"),
        ("{a,a}.tar", "names a shard twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(pattern: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    (tmp_path / "b.tar").touch()
    (tmp_path / "bad.txt").write_text("a.tar\na.png\n")
    with pytest.raises(UserError, match=message) as raised:
        matching_shards(tmp_path, pattern, setting="data.train")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["train-0", "val-0"], ("train*.tar", "val*.tar")),
        (["training_000", "test_000"], ("training*.tar", "test*.tar")),
        (["train-0", "train-1"], ("train*.tar", "20%")),
        (["00000", "00001"], ("*.tar", "20%")),
    ],
)
def test_names_of_shards_tell_the_splits(
    names: list[str], wanted: tuple[str, str], tmp_path: Path
) -> None:
    for number, name in enumerate(names):
        write_tar(tmp_path / f"{name}.tar", labelled(6, first=6 * number))
    found = settings_for(str(tmp_path))
    assert found == {
        "name": "shards",
        "root": str(tmp_path),
        "train": wanted[0],
        "test": wanted[1],
    }


def test_folders_of_shards_are_splits(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "0.tar", labelled(4))
    assert understood(tmp_path)["test"] == "20%"
    write_tar(tmp_path / "Val" / "0.tar", labelled(4))
    found = understood(tmp_path)
    assert (found["train"], found["test"]) == ("train/*.tar", "Val/*.tar")


def test_without_labels_no_image_is_held_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", plain(3))
    assert understood(tmp_path)["test"] == "*.tar"


def understood(path: Path | str) -> dict[str, Any]:
    found = settings_for(str(path))
    assert found is not None
    return found


def test_a_pattern_a_file_and_a_list_are_paths_of_data(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / "d" / f"x-{number}.tar", plain(2, first=2 * number))
    (tmp_path / "some.txt").write_text("d/x-2.tar\n")
    for text, root, train in (
        ("d/x-{0..1}.tar", "d", "x-{0..1}.tar"),
        ("*/x-0.tar", "", "*/x-0.tar"),
        ("d/x-1.tar", "d", "x-1.tar"),
        ("some.txt", "", "some.txt"),
    ):
        found = understood(tmp_path / text)
        assert (found["root"], found["train"]) == (str(tmp_path / root), train)


def test_all_images_of_a_folder_of_shards_are_the_training_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", labelled(6))
    assert all_images(str(tmp_path))["test"] == "*.tar"


def test_images_beside_tars_are_still_a_folder_of_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", plain(1))
    folders.write(tmp_path / "a.png", 0)
    assert understood(tmp_path)["name"] == "image_folder"


def test_shards_without_images_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.txt", b"x")])
    write_tar(tmp_path / "b.tar", [])
    with pytest.raises(
        UserError, match=r"shard '.*a.tar' contains no images, nor do 1 others; shards"
    ):
        settings_for(str(tmp_path))
