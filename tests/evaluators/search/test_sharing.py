"""A bank that ranks share: the neighbours of one rank, ties included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search import sharing
from ssl_zoo.evaluators.search.exact import nearest
from ssl_zoo.evaluators.search.mapped import Mapped, mapped_rows
from ssl_zoo.evaluators.search.sharing import shares
from tests.distributed import run_on_ranks
from tests.evaluators.search.test_exact import gaussian, signs

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def searches(folder: str) -> dict[str, Found]:
    """Returns what rank 0 finds in features of which many tie, and of which none does."""
    sharing.WORTH_SHARING = 0
    mapped = np.load(Path(folder) / "train.npy", mmap_mode="r")
    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "ties": (signs(3001, 0), signs(50, 1), {"k": 20}),
        "duplicates": (np.tile(gaussian(500, 24, 0), (20, 1)), gaussian(50, 24, 1), {"k": 30}),
        "long": (gaussian(5000, 24, 0), gaussian(50, 24, 1), {"k": 120, "metric": "dot"}),
        "mapped": (mapped[7:], gaussian(50, 24, 1), {"k": 7}),
        "bf16": (gaussian(5000, 24, 0), gaussian(50, 24, 1), {"k": 7, "precision": "bf16"}),
        "few": (signs(2, 0), signs(30, 1), {"k": 9}),
    }
    found: dict[str, Found] = {}

    def search() -> None:
        for name, (train, test, settings) in cases.items():
            found[name] = nearest(train, test, **settings)

    distributed.on_main(search)
    return found


@pytest.fixture
def features(tmp_path: Path) -> str:
    np.save(tmp_path / "train.npy", gaussian(5000, 24, 0))
    return str(tmp_path)


@pytest.mark.distributed
def test_ranks_find_what_one_finds_to_the_last_bit(features: str) -> None:
    alone = run_on_ranks(searches, 1, features)[0]
    for n_ranks in (2, 3):
        together, *others = run_on_ranks(searches, n_ranks, features)
        assert others == [{}] * (n_ranks - 1)
        for name, expected in alone.items():
            for one, other in zip(together[name], expected, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=f"{name} on {n_ranks} ranks")


def count_rows(folder: str) -> int:
    """Returns how many features this rank searches in."""
    sharing.WORTH_SHARING = 0
    rows = []
    chunks = sharing.Bank.chunks

    def counted(bank: sharing.Bank) -> Any:
        rows.append(len(bank))
        return chunks(bank)

    sharing.Bank.chunks = counted  # type: ignore[assignment,method-assign]
    train = np.load(Path(folder) / "train.npy", mmap_mode="r")
    distributed.on_main(lambda: nearest(train, gaussian(50, 24, 1), k=3) and None)
    return sum(rows)


@pytest.mark.distributed
def test_each_rank_searches_its_own_share(features: str) -> None:
    assert run_on_ranks(count_rows, 2, features) == [4096, 904]


def search_what_is_gone(folder: str) -> str:
    sharing.WORTH_SHARING = 0
    train = np.load(Path(folder) / "train.npy", mmap_mode="r")
    if distributed.is_main():
        train.filename = Path(folder) / "elsewhere.npy"
    with pytest.raises(UserError) as caught:
        distributed.on_main(lambda: nearest(train, gaussian(50, 24, 1), k=3) and None)
    return str(caught.value)


@pytest.mark.distributed
def test_a_cache_that_a_rank_does_not_see_is_named_on_all(features: str) -> None:
    for message in run_on_ranks(search_what_is_gone, 2, features):
        assert "elsewhere.npy' cannot be read" in message
        assert message.endswith("all ranks must see the same cache")


def test_a_process_without_helpers_searches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WORTH_SHARING", 0)
    monkeypatch.setattr(distributed, "together", lambda *_, **__: pytest.fail("asked"))
    nearest(gaussian(300, 24, 0), gaussian(20, 24, 1), k=3)


@pytest.mark.parametrize(("n", "n_ranks"), [(1, 3), (7, 3), (5000, 2), (1_281_167, 64)])
def test_shares_are_even_and_leave_out_no_row(n: int, n_ranks: int) -> None:
    found = shares(n, n_ranks)
    assert np.concatenate([np.arange(n)[rows] for rows in found]).tolist() == [*range(n)]
    sizes = [rows.stop - rows.start for rows in found]
    assert max(sizes) - min(sizes) <= 4096
    assert all(rows.start % 4096 == 0 or rows.start == n for rows in found)


def test_rows_of_a_memory_map_are_opened_where_they_are(tmp_path: Path) -> None:
    values = gaussian(500, 24, 0)
    np.save(tmp_path / "values.npy", values)
    place = mapped_rows(np.load(tmp_path / "values.npy", mmap_mode="r")[123:])
    assert isinstance(place, Mapped)
    np.testing.assert_array_equal(place.open((300, 24)), values[123:423])
    assert mapped_rows(values) is None
    assert mapped_rows(np.load(tmp_path / "values.npy", mmap_mode="r")[:, :5]) is None
