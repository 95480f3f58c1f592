"""Why a job left that waits for its next start."""

import pytest

from ssl_zoo.jobs.causes import LogEnd, leaving
from ssl_zoo.runs.history import Event

STARTED = Event("started", step=0)
STOPPED = Event("stopped", step=31, reason="SIGTERM")
REQUEUED = Event("requeued", step=31)


@pytest.mark.parametrize(
    ("events", "system", "words"),
    [
        ([STARTED, STOPPED, REQUEUED], "", "saved at step 31, then requeued itself"),
        (
            [STARTED, STOPPED],
            "cancelled due to preemption",
            "due to preemption, asked to stop (SIGTERM), saved at step 31",
        ),
        ([STARTED], "cancelled due to node failure", "due to node failure"),
        ([STARTED, STOPPED, STARTED], "", ""),  # the last start recorded nothing
        ([STARTED], "node1: task 1: Killed", ""),
    ],
)
def test_a_requeued_job_tells_why_it_left(events: list[Event], system: str, words: str) -> None:
    assert leaving(events, LogEnd(system=system)) == words
