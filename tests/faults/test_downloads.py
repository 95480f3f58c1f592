"""Weight files that are downloaded."""

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.config import ScoringConfig
from ssl_zoo.weights.downloads import ALLOW_HTTP, MAX_GB, downloads_folder
from ssl_zoo.weights.open import METADATA, open_checkpoint
from tests.small import tiny_backbone

FACTS = {"backbone": {"name": "tiny_resnet", "widths": [8, 16], "stem_stride": 4}}


class Site:
    """A web server on this machine, and what it was asked.

    Attributes:
        files: what it sends for each path: bytes, a status with bytes, or an address to go to.
        asked: path and user of each request.
        cut: number of bytes that it leaves out at the end.
    """

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("Authorization")))
                found = site.files.get(
                    self.path.partition("?")[0], (404, b"<html>not here</html>")
                )
                if isinstance(found, str):
                    self.send_response(302)
                    self.send_header("Location", found)
                    self.end_headers()
                    return
                status, content = found if isinstance(found, tuple) else (200, found)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - site.cut])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __call__(self, path: str) -> str:
        return f"http://{self.host}{path}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(ALLOW_HTTP, "1")
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


def weights(factor: float = 1.0) -> bytes:
    """Returns a weight file of ours."""
    torch.manual_seed(0)
    state = {name: tensor * factor for name, tensor in tiny_backbone().state_dict().items()}
    return safetensors.torch.save(state, metadata={METADATA: json.dumps(FACTS)})


def refusal(address: str) -> str:
    """Returns the one line that opening an address ends with; it leaves no file behind."""
    with pytest.raises(UserError) as raised:
        open_checkpoint(address)
    left = (
        [path.name for path in downloads_folder().glob("*")] if downloads_folder().exists() else []
    )
    assert [name for name in left if not name.endswith(".lock")] == []
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_is_downloaded_once(site: Site) -> None:
    """The same address is used twice.

    Then: the file is downloaded once and kept in the cache.
    Do: nothing.
    """
    site.files["/x.safetensors"] = weights()
    digests = {open_checkpoint(site("/x.safetensors")).digest for _ in range(2)}
    assert (len(digests), len(site.asked)) == (1, 1)


def test_an_address_with_dots_stays_in_the_cache(site: Site, tmp_path: Path) -> None:
    """An address leads upwards: `HOST/../../../up.safetensors`.

    Then: the file is kept in the cache under a name of ours; nothing is written outside.
    Do: nothing.
    """
    site.files["/../../../up.safetensors"] = weights()
    open_checkpoint(site("/../../../up.safetensors"))
    outside = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in outside} == {downloads_folder()}
    assert not list(tmp_path.rglob("up*"))


def test_two_hosts_with_files_of_one_name(site: Site) -> None:
    """Two hosts, or two versions behind one address, have files of the same path.

    Then: each address has its own file.
    Do: nothing.
    """
    other = Site()
    site.files["/x.safetensors"], other.files["/x.safetensors"] = weights(), weights(2)
    addresses = [site("/x.safetensors"), other("/x.safetensors"), site("/x.safetensors?v=2")]
    digests = [open_checkpoint(address).digest for address in addresses]
    other.server.shutdown()
    assert digests[0] == digests[2] != digests[1]
    assert len(site.asked) == 2


def test_an_error_page(site: Site) -> None:
    """The host sends a page that says "try later" instead of the file.

    Then: the page is refused and not kept; the next attempt downloads the file.
    Do: try again later.
    """
    site.files["/x.safetensors"] = b"<html>try later</html>"
    assert "neither a torch checkpoint nor a safetensors file" in refusal(site("/x.safetensors"))
    site.files["/x.safetensors"] = weights()
    assert open_checkpoint(site("/x.safetensors")).backbone.feature_dim == 16


def test_a_file_that_is_not_there(site: Site) -> None:
    """The host has no such file.

    Then: the line says what the host answers.
    Do: correct the address.
    """
    message = refusal(site("/none.safetensors"))
    assert message.endswith("cannot be downloaded: the host answers 404 Not Found")


def test_a_connection_that_ends_early(site: Site) -> None:
    """The connection is lost before the whole file has arrived.

    Then: what arrived is removed.
    Do: try again.
    """
    site.files["/x.safetensors"], site.cut = weights(), 10
    assert "bytes arrived; try again" in refusal(site("/x.safetensors"))


def test_a_file_that_is_kept_is_damaged(site: Site) -> None:
    """A downloaded file in the cache is cut off.

    Then: it is downloaded again.
    Do: nothing.
    """
    site.files["/x.safetensors"] = weights()
    open_checkpoint(site("/x.safetensors"))
    (kept,) = [path for path in downloads_folder().iterdir() if not path.name.startswith(".")]
    kept.write_bytes(kept.read_bytes()[:-10])
    open_checkpoint(site("/x.safetensors"))
    assert len(site.asked) == 2


def test_a_digest_in_the_address(site: Site) -> None:
    """An address ends in `#sha256=DIGEST`, and the file has another digest.

    Then: the file is refused, and the line has both digests.
    Do: do not use the file, or correct the address.
    """
    site.files["/x.safetensors"] = weights()
    right = hashlib.sha256(weights()).hexdigest()
    assert right in refusal(f"{site('/x.safetensors')}#sha256={'0' * 64}")
    assert open_checkpoint(f"{site('/x.safetensors')}#sha256={right}").backbone.feature_dim == 16


def test_a_file_above_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is larger than the limit, 20 GB.

    Then: the download ends before the disk is full.
    Do: if the file is meant, set `SSL_ZOO_MAX_DOWNLOAD_GB`.
    """
    monkeypatch.setenv(MAX_GB, "0.00001")
    site.files["/x.safetensors"] = weights()
    assert f"larger than 1e-05 GB; to download it, set {MAX_GB}" in refusal(site("/x.safetensors"))


@pytest.mark.parametrize("how", ["direct", "by a redirect"])
def test_an_address_without_encryption(
    how: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address begins with `http://`, or leads to one that does.

    Then: it is refused, because anyone on the way could change the file.
    Do: use `https://`; in a network of your own, set `SSL_ZOO_ALLOW_HTTP=1`.
    """
    if how == "direct":
        monkeypatch.delenv(ALLOW_HTTP)
        assert f"use https://, or set {ALLOW_HTTP}=1" in refusal(site("/x.safetensors"))
        assert site.asked == []
    else:
        site.files["/x.safetensors"] = "ftp://127.0.0.1/x"
        assert "'ftp://127.0.0.1/x' is not encrypted" in refusal(site("/x.safetensors"))


def test_a_password_in_an_address(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An address holds a user name and password, and a token in its query.

    Then: they are sent to this host only, and are in no log, result, error or name of a file.
    Do: nothing.
    """
    caplog.set_level(logging.DEBUG)
    other = Site()
    other.files["/y.safetensors"] = weights()
    site.files["/x.safetensors"] = other("/y.safetensors")
    address = site("/x.safetensors?token=s3cret").replace("http://", "http://me:s3cret@")
    opened = open_checkpoint(address)
    other.server.shutdown()
    assert site.asked == [("/x.safetensors?token=s3cret", "Basic bWU6czNjcmV0")]
    assert other.asked == [("/y.safetensors", None)]
    with pytest.raises(UserError) as raised:
        open_checkpoint(address.replace("x.safe", "none.safe"))
    names = " ".join(str(path) for path in tmp_path.rglob("*"))
    assert "s3cret" not in f"{opened.what} {caplog.text} {raised.value} {names}"


def test_a_password_in_the_address_of_a_job() -> None:
    """A scoring job is submitted for an address with a password, which its folder would show.

    Then: it is refused.
    Do: download the file, and submit a job for it.
    """
    with pytest.raises(ValueError, match="download the file first"):
        ScoringConfig(checkpoint="https://me:s3cret@host/x.pth")
