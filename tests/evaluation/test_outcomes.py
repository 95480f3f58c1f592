"""What each test image adds to a score, in JSON."""

import json

import numpy as np
import pytest

from ssl_zoo.evaluation.outcomes import Outcomes


def hits(n: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.random.default_rng(0).random(n) < 0.5


@pytest.mark.parametrize("n", [1, 7, 8, 9, 400])
def test_outcomes_come_back_as_they_were(n: int) -> None:
    for outcomes in (hits(n), np.linspace(0, 1, n).astype(np.float32)):
        text = json.dumps(Outcomes.of(outcomes).model_dump(mode="json"))
        found = Outcomes.model_validate_json(text).array()
        assert found.tolist() == outcomes.tolist()
        assert found.dtype == outcomes.dtype


def test_ten_thousand_hits_take_less_than_two_kilobytes() -> None:
    assert len(Outcomes.of(hits(10_000)).model_dump_json()) < 2000


def test_only_what_there_is_is_written() -> None:
    assert set(Outcomes.of(hits(3)).model_dump(mode="json")) == {"n", "bits"}


def test_a_wrong_number_is_refused() -> None:
    packed = Outcomes.of(np.zeros(4, dtype=np.float32))
    with pytest.raises(ValueError, match="4 outcomes for 5 images"):
        packed.model_copy(update={"n": 5}).array()
