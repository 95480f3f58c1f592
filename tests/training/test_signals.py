"""Signals set a flag; what comes before or within another listener is not lost."""

import os
import signal

import pytest

from ssl_zoo.training.signals import HANDLED, StopRequest, by_weight, listen, weight


def test_the_weightiest_signal_counts_and_all_are_seen() -> None:
    request = StopRequest()
    for signum in (signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM):
        request(signum, None)
    assert request.signum == signal.SIGUSR2
    assert request.seen == {signal.SIGTERM, signal.SIGUSR2}


def test_weights_are_found_back() -> None:
    assert [by_weight(weight(signum)) for signum in (0, *HANDLED)] == [0, *HANDLED]


def test_a_listener_within_another_hears_what_came_before() -> None:
    with listen() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with listen() as inner:
            assert inner is outer
            assert inner.signum == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGUSR2)  # the handlers of the outer one are still there
        assert outer.signum == signal.SIGUSR2


def test_a_signal_can_end_a_block_at_once() -> None:
    def work(request: StopRequest) -> None:
        with request.raising(lambda signum: LookupError(signum)):
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not reached")

    with listen() as request:
        with pytest.raises(LookupError, match=str(int(signal.SIGTERM))):
            work(request)
        os.kill(os.getpid(), signal.SIGTERM)  # outside of the block it is a flag again


def test_a_signal_that_came_before_ends_the_block_too() -> None:
    request = StopRequest()
    request(signal.SIGUSR2, None)
    with (
        pytest.raises(LookupError),
        request.raising(lambda signum: LookupError(signum)),
    ):
        raise AssertionError("not reached")


def test_the_first_signal_is_remembered_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with listen() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    request = StopRequest()
    request(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        request(signal.SIGINT, None)
