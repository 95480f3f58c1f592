"""`check_method(ranks=2)` sees a loss that only knows its own rank's images."""

from pathlib import Path

import pytest

from ssl_zoo import plugins
from ssl_zoo.method import METHODS
from ssl_zoo.testing import check_method
from ssl_zoo.testing.ranks import N_STEPS, assert_same_steps, steps
from tests.plugins.method_file import write_method


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    monkeypatch.setattr(plugins, "FILES", {})


@pytest.mark.distributed
def test_a_method_of_a_file_is_checked_on_two_ranks(tmp_path: Path) -> None:
    plugins.load_file(write_method(tmp_path / "ranked.py", "ranked"))
    check_method("ranked", ranks=2)


@pytest.mark.distributed
def test_a_loss_of_one_ranks_images_is_refused(tmp_path: Path) -> None:
    path = write_method(tmp_path / "alone.py", "alone")
    path.write_text(
        path.read_text().replace("(one - two).square()", "(one - two.mean(dim=0)).square()")
    )
    plugins.load_file(path)
    with pytest.raises(AssertionError, match="method 'alone': step 0 on rank 0 of 2 has loss"):
        check_method("alone", ranks=2)


def test_steps_are_compared_one_by_one() -> None:
    found = steps("simclr")
    assert len(found) == N_STEPS
    assert_same_steps("simclr", found, [found, found])
    loss, gradients = found[2]
    key = next(iter(gradients))
    wrong = [*found[:2], (loss, {**gradients, key: gradients[key] + 1}), found[3]]
    with pytest.raises(AssertionError, match=f"step 2 on rank 1 of 2, gradient of {key}: "):
        assert_same_steps("simclr", found, [found, wrong])
