"""Whether the Hub can be reached is known within seconds, by one connection and no request."""

import socket
import time

import pytest

from ssl_zoo.backbones import hub_reach
from ssl_zoo.backbones.hub_reach import cache_if_unreachable, hub_answers


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)


def test_a_host_that_takes_connections_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub_answers()


def test_a_host_without_server_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert not hub_answers()


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_reach, "PATIENCE_S", 0.05)

    def hang(*_: object, **__: object) -> socket.socket:
        time.sleep(0.5)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    started = time.monotonic()
    assert not hub_answers()
    assert time.monotonic() - started < 0.5


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": proxy})
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
        assert hub_answers()


def test_the_library_is_offline_only_while_the_hub_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_reach, "hub_answers", lambda: False)
    with cache_if_unreachable() as reachable:
        assert not reachable
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
