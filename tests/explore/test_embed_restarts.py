"""`ssl-zoo embed` that is killed and started again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_zoo.data.reader import LoadedBatch
from ssl_zoo.evaluation import cache, features
from ssl_zoo.explore import embed as module
from ssl_zoo.explore.feature_files import read_facts
from tests.explore.test_embed import columns, run

COMPUTED = features._computed


class Killed(Exception):
    """Stands for a signal that ends the process."""


def _stop_after(n: int, seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills the extraction after `n` batches, whose sizes are added to `seen`."""
    stop = len(seen) + n

    def count(network: Any, batch: LoadedBatch, *arguments: Any) -> Any:
        if len(seen) == stop:
            raise Killed
        seen.append(len(batch.index))
        return COMPUTED(network, batch, *arguments)

    monkeypatch.setattr(features, "_computed", count)


def test_a_restart_continues_after_the_finished_blocks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BLOCK_ROWS", 4)
    run(photos, tmp_path / "whole.npz", what="untrained:tiny_resnet", batch_size=4)
    seen: list[int] = []
    _stop_after(2, seen, monkeypatch)
    with pytest.raises(Killed):
        run(photos, tmp_path / "a.npz", what="untrained:tiny_resnet", batch_size=4)
    assert not (tmp_path / "a.npz").exists()
    _stop_after(5, seen, monkeypatch)
    run(photos, tmp_path / "a.npz", what="untrained:tiny_resnet", batch_size=4)
    assert len(seen) == 5  # of 4 blocks; one was computed, but not yet finished
    assert not (tmp_path / ".a.npz.parts").exists()
    one, other = columns(tmp_path / "a.npz"), columns(tmp_path / "whole.npz")
    np.testing.assert_array_equal(one["features"], other["features"])


def test_a_kill_while_the_file_is_written_keeps_the_old_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.npz"
    run(photos, file)
    before = file.read_bytes()

    def half(path: Path, *arguments: Any) -> None:
        path.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(module, "write_features", half)
    with pytest.raises(Killed):
        run(photos, file, overwrite=True, normalize=True)
    monkeypatch.undo()
    assert file.read_bytes() == before
    run(photos, file, overwrite=True, normalize=True)
    assert read_facts(file).normalized


def test_parts_of_another_request_are_not_used(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_after(1, [], monkeypatch)
    with pytest.raises(Killed):
        run(photos, tmp_path / "a.npz", what="untrained:tiny_resnet", batch_size=4)
    monkeypatch.undo()
    run(photos, tmp_path / "a.npz")
    assert columns(tmp_path / "a.npz")["features"].shape == (16, 192)


def test_a_cache_is_kept_and_used(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "a.npz", cache=str(tmp_path / "cache"))
    monkeypatch.setattr(features, "_computed", None)
    run(photos, tmp_path / "b.npz", cache=str(tmp_path / "cache"))
    one, other = columns(tmp_path / "a.npz"), columns(tmp_path / "b.npz")
    np.testing.assert_array_equal(one["features"], other["features"])
