"""Asks once whether the Hugging Face Hub can be reached, so that its clients do not keep retrying.

huggingface_hub and timm repeat each request for up to a minute without a network.
"""

import importlib
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

HUB = "https://huggingface.co"
PATIENCE_S = 4.0
"""Seconds for a connection to be made; it takes less than one where there is a network."""
_PORTS = {"http": 80, "https": 443}


def hub_answers() -> bool:
    """Returns whether a connection to the Hub, or to the proxy before it, is made within `PATIENCE_S`.

    The address is that of HF_ENDPOINT, if set. No request is sent.
    """
    address = _first_hop(os.environ.get("HF_ENDPOINT") or HUB)
    made = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection(address, timeout=PATIENCE_S):
                made.set()
        except (OSError, ValueError):
            return  # not reachable, which is the answer

    # A name may be looked up for longer than any time-out of the connection.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return made.is_set()


@contextmanager
def cache_if_unreachable() -> Iterator[bool]:
    """Lets huggingface_hub use its cache alone while the Hub cannot be reached; yields whether it can."""
    if offline_wanted() or hub_answers():
        yield True
        return
    constants: Any = importlib.import_module("huggingface_hub.constants")
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield False
    finally:
        constants.HF_HUB_OFFLINE = before


def offline_wanted() -> bool:
    """Returns whether the user has set HF_HUB_OFFLINE, or the library is not installed."""
    try:
        constants: Any = importlib.import_module("huggingface_hub.constants")
    except ImportError:
        return True
    return bool(constants.HF_HUB_OFFLINE)


def _first_hop(address: str) -> tuple[str, int]:
    """Returns host and port of an address, or of the proxy for it."""
    target = urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and target.hostname and not urllib.request.proxy_bypass(target.hostname):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return target.hostname or "", target.port or _PORTS.get(target.scheme, 1080)
