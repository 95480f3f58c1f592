"""Images in tar shards."""

import os
import shutil
from pathlib import Path

import pytest

from ssl_zoo.data.shards import _opened
from ssl_zoo.errors import UserError
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train
from tests.data.tars import labelled, plain, write_tar
from tests.small import fast_config


def run_on(root: Path, *overrides: str) -> RunConfig:
    return fast_config(
        "supervised",
        f"data={{name: shards, root: {root}, test: 'train-*.tar'}}",
        "global_batch_size=4",
        "epochs=2",
        "checkpoint.every=2 steps",
        "data.decoded_mb=0",
        *overrides,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over 16 images in two shards, beside its shards."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(2):
        write_tar(folder / "shards" / f"train-{number}.tar", labelled(8, first=8 * number))
    train(run_on(folder / "shards"), folder / "run", bar=False)
    return folder


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """A copy that was stopped at step 6 of 8, inside its second epoch."""
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    (copy / "run" / "complete.json").unlink()
    shutil.rmtree(copy / "run" / "checkpoints" / "step-00000008")
    return copy


def resumed(folder: Path, *overrides: str) -> RunFolder:
    return RunFolder(train(run_on(folder / "shards", *overrides), folder / "run", bar=False))


def weights(run: Path) -> bytes:
    (file,) = (run / "checkpoints" / "step-00000008").glob("model*.safetensors")
    return file.read_bytes()


def test_a_run_on_shards_resumes_elsewhere(stopped: Path, finished: Path) -> None:
    """A run on shards is killed inside an epoch, and resumes where the shards were copied without indexes.

    Then: the indexes are made again, and the run ends with the same weights as without the stop.
    Do: nothing.
    """
    for index in (stopped / "shards").glob("*.index"):
        index.unlink()
    assert resumed(stopped, "num_workers=2").is_complete
    assert weights(stopped / "run") == weights(finished / "run")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("a shard is cut off", "16 images then, 11 now"),
        ("a shard is replaced", "the first difference is at '.*train-1.tar/.*'"),
        ("a shard is gone", "16 images then, 8 now"),
    ],
)
def test_shards_of_a_run_change(fault: str, told: str, stopped: Path) -> None:
    """A shard of a run is cut off, replaced or removed, and the run resumes.

    Then: it is refused, with what changed.
    Do: restore the shard, or accept the change with `data.changed=accept`.
    """
    change(stopped / "shards" / "train-1.tar", fault)
    with pytest.raises(UserError, match=f"changed since step 6: {told}.*data.changed=accept"):
        resumed(stopped)
    assert not RunFolder(stopped / "run").is_complete


def change(shard: Path, fault: str) -> None:
    if fault == "a shard is gone":
        shard.unlink()
    elif fault == "a shard is replaced":
        write_tar(shard, labelled(8, first=30))
    else:
        os.truncate(shard, shard.stat().st_size * 3 // 8)


def test_a_change_of_shards_is_accepted(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A shard of a run is replaced, and the run resumes with `data.changed=accept`.

    Then: it resumes on the new images, with a warning; checkpoints and the card remember what changed.
    Do: nothing.
    """
    change(stopped / "shards" / "train-1.tar", "a shard is replaced")
    run = resumed(stopped, "data.changed=accept")
    assert "has changed since step 6: the first difference" in caplog.text
    data = checkpoint.read_manifest(checkpoint.found(run.checkpoints)[0]).data
    assert data is not None
    assert len(data.changes) == 1


def test_a_shard_is_cut_off_before_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The copy of a shard was not complete.

    Then: its first images are used, and one line says how many; what is missing is not in the data set.
    Do: copy the shard again, before the run has a checkpoint.
    """
    write_tar(tmp_path / "shards" / "train-0.tar", labelled(8))
    write_tar(tmp_path / "shards" / "train-1.tar", labelled(8, first=8))
    os.truncate(tmp_path / "shards" / "train-1.tar", 9000)
    assert RunFolder(train(run_on(tmp_path / "shards"), tmp_path / "run", bar=False)).is_complete
    said = [record.message for record in caplog.records if "train-1.tar" in record.message]
    assert len([line for line in said if "is cut off" in line]) == 1


def test_a_shard_is_cut_off_or_gone_during_a_run(tmp_path: Path) -> None:
    """A shard is removed, or cut off, while a run reads it.

    Then: its images are replaced by others, counted and named with the reason; above `data.max_corrupt` the
    run stops, and can resume when the shard is back.
    Do: restore the shard.
    """
    from ssl_zoo.data.base import DATASETS
    from ssl_zoo.data.reader import CorruptImages, faults_of

    write_tar(tmp_path / "train-0.tar", plain(4))
    settings = {"name": "shards", "root": str(tmp_path), "test": "train-0.tar", "max_corrupt": 2}
    data = DATASETS.build(settings, split="train")
    _opened.cache_clear()
    (tmp_path / "train-0.tar").unlink()
    with pytest.raises(
        UserError,
        match=r"4 of 4 images cannot be used, more than data.max_corrupt=2 allows: "
        r"'.*train-0.tar/0000.png' \(its shard: no such file or directory\)",
    ):
        CorruptImages(data.max_corrupt, len(data)).add(faults_of(data, range(4)))


def test_a_shard_is_compressed(tmp_path: Path) -> None:
    """A shard was compressed with gzip, or is not a tar file.

    Then: it is refused by name; in a compressed file no image can be read without those before it.
    Do: `gunzip` it, or move it away.
    """
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(1000))
    with pytest.raises(UserError, match="a.tar' is compressed.*unpack it with gunzip"):
        train(run_on(tmp_path, "data.train=a.tar", "data.test=a.tar"), tmp_path / "run", bar=False)
