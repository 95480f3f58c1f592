"""Orders to SLURM; its clients are fakes."""

from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import orders
from tests.jobs.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (orders.scancel, "scancel 12"),
        (orders.scontrol_requeue, "scontrol requeue 12"),
        (orders.scontrol_release, "scontrol release 12"),
        (orders.signal_to_requeue, "scancel --signal=USR2 12"),
    ],
)
def test_orders_are_given_and_refusals_are_passed_on(
    order: object, words: str, slurm: FakeSlurm
) -> None:
    assert callable(order)
    order("12")
    assert slurm.calls() == [words]
    said = "Access/permission denied"
    slurm.says("scancel", err=f"scancel: error: Kill job error on job id 12: {said}", status=1)
    slurm.says("scontrol", err=f"{said} for job 12", status=1)
    with pytest.raises(UserError, match=f"SLURM refused .*12.*{said}"):
        order("12")


def test_a_signal_is_sent_once_also_where_scancel_would_send_it_again(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "SIGNAL_SECONDS", 0.3)
    slurm.hangs("scancel")
    orders.signal_to_requeue("729_0")
    assert slurm.calls() == ["scancel --signal=USR2 729_0"]
