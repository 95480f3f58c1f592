import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ssl_zoo.data import fingerprint, shard_index
from ssl_zoo.data.shard_index import Shard, known_shards, make_index
from ssl_zoo.errors import UserError
from tests.data.tars import labelled, plain, png, write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "indexes"


def known(path: Path) -> Shard:
    return known_shards([path])[0]


def names(shard: Shard) -> list[str]:
    kept = load_file(shard.index)
    text, ends = kept["names"].tobytes().decode(), kept["ends"].tolist()
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def classes(shard: Shard) -> list[str | None]:
    codes = load_file(shard.index)["classes"].tolist()
    return [shard.classes[code] if code >= 0 else None for code in codes]


def test_rows_are_where_the_bytes_of_images_are(tmp_path: Path) -> None:
    members = labelled(5)
    path = write_tar(tmp_path / "a.tar", members)
    rows, content = load_file(known(path).index)["rows"], path.read_bytes()
    assert [content[start : start + size] for start, size in rows.tolist()] == [
        one for name, one in members if name.endswith(".png")
    ]


def test_files_of_one_key_are_one_image(tmp_path: Path) -> None:
    image = png(0)
    members = [
        ("a/1.json", b'{"label": "cat", "width": 3}'),
        ("a/1.seg.png", image),
        ("a/1.jpg", image),
        ("a/1.txt", b"a caption"),
        ("b/1.cls", b" 7\n"),
        ("b/1.png", image),
        ("b/2.png", image),
        ("b/3.txt", b"no image"),
        ("b/._2.png", b"of another system"),
    ]
    shard = known(write_tar(tmp_path / "a.tar", members))
    assert names(shard) == ["a/1.jpg", "b/1.png", "b/2.png"]
    assert classes(shard) == ["cat", "7", None]


def test_a_class_in_cls_comes_before_one_in_json(tmp_path: Path) -> None:
    members = [("1.cls", b"3"), ("1.json", json.dumps({"label": 4}).encode()), ("1.png", png(0))]
    assert classes(known(write_tar(tmp_path / "a.tar", members))) == ["3"]


@pytest.mark.parametrize("content", [b"{", b'{"label": true}', b"[1]", b"\xff", b'{"x": 1}'])
def test_json_without_a_class_gives_none(content: bytes, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.png", png(0)), ("1.json", content)])
    assert classes(known(path)) == [None]


def test_long_names_and_other_alphabets_are_read(tmp_path: Path) -> None:
    long = f"{'x' * 150}/ключ-日本.png"
    assert names(known(write_tar(tmp_path / "a.tar", [(long, png(0))]))) == [long]


def test_a_second_start_reads_the_index_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", labelled(3))
    first = known(path)
    assert first.index == tmp_path / "a.tar.index"
    monkeypatch.setattr(shard_index, "make_index", None)
    assert known(path) == first


def test_the_index_is_in_the_cache_if_the_folder_cannot_be_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", labelled(3))
    (tmp_path / ".a.tar.index").mkdir()
    monkeypatch.setattr(os, "getpid", lambda: "x")
    (tmp_path / ".a.tar.index.x").mkdir()  # cannot be opened as a file
    first = known(path)
    assert first.index.parent == cache
    assert known(path) == first


@pytest.mark.parametrize("what", ["longer", "newer"])
def test_a_changed_shard_is_indexed_again(what: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", plain(3))
    before = known(path)
    write_tar(path, plain(30 if what == "longer" else 3, first=5))
    stat = before.index.stat()
    when = stat.st_mtime_ns - 10**9 if what == "longer" else stat.st_mtime_ns + 10**9
    os.utime(path, ns=(when, when))
    os.utime(before.index, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    after = known(path)
    assert after.digest != before.digest
    assert names(after)[0] == "0005.png"


def test_a_damaged_index_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tar(tmp_path / "a.tar", plain(3))
    before = known(path)
    before.index.write_bytes(before.index.read_bytes()[:-9])
    assert known(path).digest == before.digest
    assert "is damaged and is made again" in caplog.text


def test_the_digest_follows_bytes_names_and_classes_and_not_the_place(tmp_path: Path) -> None:
    digests = [
        known(write_tar(tmp_path / f"{number}.tar", members)).digest
        for number, members in enumerate(
            [
                [("1.png", png(0)), ("1.cls", b"1")],
                [("1.png", png(0)), ("1.cls", b"1")],
                [("1.png", png(1)), ("1.cls", b"1")],
                [("2.png", png(0)), ("2.cls", b"1")],
                [("1.png", png(0)), ("1.cls", b"2")],
            ]
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_some_bytes_of_a_large_shard_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 0)
    monkeypatch.setattr(shard_index, "SAMPLED", 2)
    members = plain(5)
    first = make_index(write_tar(tmp_path / "a.tar", members)).digest
    for place, counts in ((4, True), (2, False)):
        changed = [*members]
        changed[place] = (members[place][0], members[place][1][:-1] + b"x")
        assert (make_index(write_tar(tmp_path / "b.tar", changed)).digest != first) == counts


@pytest.mark.parametrize(
    ("where", "fault"), [("data", "cut off"), ("header", "cut off"), ("middle", "damaged")]
)
def test_what_follows_damage_is_left_out_and_said(
    where: str, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar(tmp_path / "a.tar", plain(6))
    start = int(load_file(known(path).index)["rows"][3, 0])
    content = path.read_bytes()
    if where == "middle":
        damaged = content[: start - 512] + b"\xff" * 512 + content[start:]
    else:
        damaged = content[: start + 9 if where == "data" else start - 100]
    path.write_bytes(damaged)
    os.utime(path, ns=(2**61, 2**61))
    caplog.clear()
    assert known(path).count == 3
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert "first 3 images are used, and what follows is not" in said[0]
    assert f"is {fault};" in said[0]


def test_an_image_whose_class_is_cut_off_is_left_out(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", labelled(6))
    start, size = load_file(known(path).index)["rows"][3].tolist()
    os.truncate(path, -(-(start + size) // 512) * 512 + 100)  # inside the header of its class
    os.utime(path, ns=(2**61, 2**61))
    assert (known(path).count, known(path).classes) == (3, ("0", "1"))


def test_a_shard_without_an_end_is_whole(tmp_path: Path) -> None:
    """A writer that was killed, or `cat` of parts, leaves no blocks of zeros at the end."""
    path = write_tar(tmp_path / "a.tar", plain(2))
    last = load_file(known(path).index)["rows"][-1]
    end = -(-int(last.sum()) // 512) * 512
    path.write_bytes(path.read_bytes()[:end])
    assert (known(path).count, known(path).fault) == (2, "")


def test_links_have_no_bytes_and_are_no_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", plain(2))
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0000.png"
        tar.addfile(link)
    assert known(path).count == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(no such file or directory\); restore it"),
        (b"", "is not a tar file, or empty; make it again"),
        (b"x" * 2000, "is not a tar file, or empty; make it again"),
        (b"\x1f\x8b" + b"x" * 2000, "is compressed, so no image .* unpack it with gunzip"),
    ],
)
def test_what_is_no_shard_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        known(tmp_path / "a.tar")
    assert "\n" not in str(raised.value)


def test_an_empty_tar_has_no_images(tmp_path: Path) -> None:
    shard = known(write_tar(tmp_path / "a.tar", []))
    assert (shard.count, shard.fault, shard.classes) == (0, "", ())
    assert load_file(shard.index)["rows"].shape == (0, 2)
    assert np.array_equal(load_file(shard.index)["names"], [])
