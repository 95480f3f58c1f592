import os
import tarfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from ssl_zoo.cli.main import cli
from ssl_zoo.data import fingerprint, shard_writing
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.folders import settings_for
from ssl_zoo.data.shard_index import make_index
from ssl_zoo.data.shard_writing import size_in_bytes
from ssl_zoo.errors import UserError
from tests.data import folders


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))


def write(source: Path, output: Path, *options: str) -> str:
    found = CliRunner().invoke(
        cli, ["-q", "shards", str(source), "-o", str(output), *options], catch_exceptions=False
    )
    assert found.exit_code == 0
    return str(found.output)


def refused(source: Path, output: Path, *options: str) -> str:
    with pytest.raises(UserError) as raised:
        cli(["shards", str(source), "-o", str(output), *options], standalone_mode=False)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def members(output: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                opened = tar.extractfile(member)
                assert opened is not None
                assert member.name not in found
                found[member.name] = opened.read()
    return found


def build(place: Path, split: Any = "train") -> Any:
    return DATASETS.build(settings_for(str(place)), split=split)


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}


def test_bytes_names_classes_and_splits_are_kept(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos")
    assert "16 images, 2 classes, 6 shards\n" in write(root, tmp_path / "d", "--images", "3")
    found = members(tmp_path / "d")
    images = {name: data for name, data in found.items() if name.endswith(".png")}
    assert images == {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")
    }
    assert found["val/dog/1.cls"] == b"1"
    for split, folder in (("train", "train"), ("test", "val")):
        data, wanted = build(tmp_path / "d", split), build(root, split)
        assert data.class_names == ["cat", "dog"]
        names = {wanted.file_name(n): wanted.labels[n] for n in range(len(wanted))}
        assert {
            data.file_name(n).partition(".tar/")[2]: data.labels[n] for n in range(len(data))
        } == names
        assert all(name.startswith(folder) for name in names)


def test_images_without_classes_or_test_images_are_written(tmp_path: Path) -> None:
    for number in range(5):
        folders.write(tmp_path / "photos" / f"{number}.png", number)
    assert "5 images, 1 shards" in write(tmp_path / "photos", tmp_path / "d")
    assert sorted(members(tmp_path / "d")) == [f"{number}.png" for number in range(5)]
    assert settings_for(str(tmp_path / "d")) == {
        "name": "shards",
        "root": str(tmp_path / "d"),
        "train": "train*.tar",
        "test": "train*.tar",
    }


def test_the_same_images_are_held_out_as_from_files(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos", 10) / "train"
    write(root, tmp_path / "d", "--images", "7")
    assert {build(root, "test").file_name(n) for n in range(4)} == {
        build(tmp_path / "d", "test").file_name(n).partition(".tar/")[2] for n in range(4)
    }


def test_names_that_would_share_a_key_are_kept_apart(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for seed, name in enumerate(("a.b.png", "a.c.png", "x.png", "x.webp", "50%.png")):
        folders.write(root / name, seed)
    write(root, tmp_path / "d")
    assert sorted(members(tmp_path / "d")) == [
        "50%25.png",
        "a%2Eb.png",
        "a%2Ec.png",
        "x%2Ewebp.webp",
        "x.png",
    ]
    assert len(build(tmp_path / "d")) == 5


@pytest.mark.parametrize("size", ["1MB", "2.5mb"])
def test_no_shard_is_larger_than_its_limit(size: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{'n' * (3 * number)}{number}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P6 200 160 255\n" + values.tobytes())
    write(tmp_path / "photos", tmp_path / "d", "--size", size)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "d").glob("*.tar"))]
    assert max(sizes) <= size_in_bytes(size)
    assert min(sizes[:-1]) > 0.85 * size_in_bytes(size)


@pytest.mark.parametrize("text", ["1", "GB", "0.1MB", "-1GB", "1GiB"])
def test_a_size_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    folders.two_classes(tmp_path / "photos")
    said = refused(tmp_path / "photos", tmp_path / "d", f"--size={text}")
    assert said == f"--size {text} is not a size of 1 MB or more; write for example 1GB or 500MB"


def test_a_stopped_command_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders.two_classes(tmp_path / "photos")
    write(root, tmp_path / "whole", "--images", "3")
    made = list[Path]()

    def stop(path: Path) -> Any:
        made.append(path)
        if len(made) == 3:
            raise KeyboardInterrupt
        return make_index(path)

    monkeypatch.setattr(shard_writing, "make_index", stop)
    with pytest.raises(click.Abort):
        cli(
            ["shards", str(root), "-o", str(tmp_path / "d"), "--images", "3"],
            standalone_mode=False,
        )
    (tmp_path / "d" / ".train-000002.tar.123").write_bytes(b"half")
    before = files_of(tmp_path / "d")
    assert "6 shards, 2 of them complete before" in write(root, tmp_path / "d", "--images", "3")
    after, whole = files_of(tmp_path / "d"), files_of(tmp_path / "whole")
    assert after["train-000001.tar"] == before["train-000001.tar"]
    assert {name: data for name, (data, _) in after.items()} == {
        name: data for name, (data, _) in whole.items()
    }


def test_shards_of_other_images_are_replaced_only_if_asked(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos")
    write(root, tmp_path / "d", "--images", "2")
    before = files_of(tmp_path / "d")
    said = refused(root, tmp_path / "d", "--images", "5")
    assert "contains shards of other images or sizes; choose another --output, or" in said
    assert files_of(tmp_path / "d") == before
    write(root, tmp_path / "d", "--images", "5", "--overwrite")
    assert len(list((tmp_path / "d").glob("*.tar"))) == 4
    assert len(members(tmp_path / "d")) == 32


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").touch()
    assert "contains other files; choose another --output" in refused(root, tmp_path / "d")


def test_an_image_that_cannot_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folders.two_classes(tmp_path / "photos") / "train"
    (root / "cat" / "0.png").unlink()
    (root / "cat" / "0.png").symlink_to("gone")
    assert "7 images" in write(root, tmp_path / "d")
    assert "1 images cannot be read and are left out: 'cat/0.png'" in caplog.text


def test_an_image_that_changes_meanwhile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders.two_classes(tmp_path / "photos") / "train"
    stats_of = fingerprint.stats_of

    def change(paths: list[Path]) -> Any:
        found = stats_of(paths)
        paths[2].write_bytes(b"x")
        return found

    monkeypatch.setattr(fingerprint, "stats_of", change)
    assert "changed while it was read; start again with --overwrite" in refused(
        root, tmp_path / "d"
    )


def test_a_damaged_image_is_written_as_it_is(tmp_path: Path) -> None:
    root = folders.two_classes(tmp_path / "photos") / "train"
    folders.damage(root / "cat" / "0.png")
    write(root, tmp_path / "d")
    assert members(tmp_path / "d")["cat/0.png"] == (root / "cat" / "0.png").read_bytes()


def test_what_shards_cannot_hold_is_refused(tmp_path: Path) -> None:
    assert "data set 'digits' has no image files" in refused(Path("digits"), tmp_path / "d")
    np.save(tmp_path / "a.npy", np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.npy").rename(tmp_path / "photos" / "a.npy")
    (tmp_path / "photos" / "b.npy").write_bytes((tmp_path / "photos" / "a.npy").read_bytes())
    said = refused(tmp_path / "photos", tmp_path / "d")
    assert "image 'a.npy' cannot be read from a shard; convert it to PNG" in said
    assert not (tmp_path / "d").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folders.two_classes(tmp_path / "photos")

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    said = refused(root, tmp_path / "d")
    assert "cannot be written to" in said
    assert "(no space left on device); make room" in said
    assert [path.name for path in (tmp_path / "d").glob("*.tar*")] == []
