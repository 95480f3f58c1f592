"""Downloads weight files: checked before they are visible, and kept by the digest of their address.

An address may hold a digest to check, `https://HOST/FILE#sha256=DIGEST`. Its user name, password and query
are sent to the host, but never shown or stored.
"""

import base64
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from iopath.common.file_io import PathHandler
from platformdirs import user_cache_path

from ssl_zoo.errors import UserError
from ssl_zoo.files import locked, sha256
from ssl_zoo.formats.reading import check_whole

logger = logging.getLogger(__name__)

ALLOW_HTTP = "SSL_ZOO_ALLOW_HTTP"
"""Environment variable that allows addresses without encryption, if 1."""
MAX_GB = "SSL_ZOO_MAX_DOWNLOAD_GB"
"""Environment variable of the largest size of a file, in GB."""
USUAL_MAX_GB = 20.0
"""That size by default; the largest published weights of vision models have 4."""

_OPEN_KEYS = {"download", "dl", "raw", "sha256"}
_PATIENCE_S = 3600.0  # for another process that downloads the same file
_SILENCE_S = 60.0  # after which a host is given up
_CHUNK = 2**20


class Downloads(PathHandler):  # type: ignore[misc]
    """Local copies of the files at `https://` addresses, for an iopath `PathManager`."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["https://", "http://"]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return str(fetch_file(path))


def is_address(what: str) -> bool:
    """Returns whether this is the address of a file to download."""
    return what.startswith(("https://", "http://"))


def without_secrets(address: str) -> str:
    """Returns an address without user name, password and query, to be shown and stored."""
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return address.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def has_secrets(what: str) -> bool:
    """Returns whether an address may hold a password: in its user name, or in its query."""
    if not is_address(what):
        return False
    try:
        parts = urlsplit(what)
    except ValueError:
        return True
    return "@" in parts.netloc or not parse_qs(parts.query).keys() <= _OPEN_KEYS


def downloads_folder() -> Path:
    """Returns the folder of downloaded files, in SSL_ZOO_CACHE or the user's cache folder."""
    own = os.environ.get("SSL_ZOO_CACHE")
    return (Path(own) if own else user_cache_path("ssl-zoo")) / "downloads"


def fetch_file(address: str) -> Path:
    """Returns the downloaded file at an address; it is downloaded if it is not there or damaged.

    Raises:
        UserError: it cannot be downloaded, is too large, is not a checkpoint, or has another digest.
    """
    what, expected = without_secrets(address), _digest_in(address)
    _check_scheme(address)
    path = downloads_folder() / hashlib.sha256(address.encode()).hexdigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), patience_s=_PATIENCE_S):
            if not _is_good(what, path, expected):
                _download(address, what, path, expected)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{what}' cannot be downloaded: {_reason(error)}") from None
    return path


def _is_good(what: str, path: Path, expected: str | None) -> bool:
    """Returns whether a file was downloaded earlier and is whole."""
    if not path.is_file():
        return False
    try:
        check_whole(what, path)
    except UserError:
        return False
    return expected is None or sha256(path) == expected


def _download(address: str, what: str, path: Path, expected: str | None) -> None:
    for old in path.parent.glob(f".{path.name}.part-*"):
        if time.time() - old.stat().st_mtime > _PATIENCE_S:  # of a process that was killed
            old.unlink(missing_ok=True)
    aside = path.with_name(f".{path.name}.part-{uuid.uuid4().hex[:8]}")
    logger.info("downloading %s", what)
    try:
        _receive(address, what, aside)
        check_whole(what, aside)
        if expected is not None and sha256(aside) != expected:
            raise UserError(
                f"'{what}' has the SHA-256 {sha256(aside)}, not {expected}; do not use it, or correct "
                "the address"
            )
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _receive(address: str, what: str, aside: Path) -> None:
    """Writes what a host sends to a file."""
    most = _most_bytes()
    opener = urllib.request.build_opener(_Redirects())
    with opener.open(_request(address), timeout=_SILENCE_S) as answer, aside.open("xb") as file:
        told = answer.headers.get("Content-Length", "")
        length = int(told) if re.fullmatch(r"\d{1,15}", told) else None
        received = 0
        while received <= most and (length is None or length <= most):
            chunk = answer.read(_CHUNK)
            if not chunk:
                break
            received += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if max(received, length or 0) > most:
        raise UserError(
            f"'{what}' is larger than {most / 1e9:g} GB; to download it, set {MAX_GB} to its size"
        )
    if length is not None and received < length:
        raise UserError(
            f"'{what}' cannot be downloaded: {received:,} of {length:,} bytes arrived; try again"
        )


def _request(address: str) -> urllib.request.Request:
    """Returns the request; a user name and password go to this host only, not where it redirects."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urlunsplit((parts.scheme, host, parts.path, parts.query, "")),
        headers={"User-Agent": "ssl-zoo"},
    )
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that could be given directly."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(address: str) -> None:
    scheme = address.partition(":")[0].lower()
    if scheme == "https" or (scheme == "http" and os.environ.get(ALLOW_HTTP) == "1"):
        return
    raise UserError(
        f"'{without_secrets(address)}' is not encrypted, so anyone on the way could change the file; "
        f"use https://, or set {ALLOW_HTTP}=1"
    )


def _digest_in(address: str) -> str | None:
    """Returns the SHA-256 in the fragment or query of an address, None without one."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise UserError(f"'{without_secrets(address)}' is not an address") from None
    found = {**parse_qs(parts.query), **parse_qs(parts.fragment)}.get("sha256")
    if found is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", found[0]):
        raise UserError(f"sha256={found[0]} is not a SHA-256, which has 64 hexadecimal digits")
    return found[0].lower()


def _most_bytes() -> float:
    text = os.environ.get(MAX_GB, str(USUAL_MAX_GB))
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text):
        raise UserError(f"{MAX_GB} is '{text}'; set it to a number of GB, such as 20")
    return float(text) * 1e9


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        known = http.client.responses.get(error.code, "")  # its own text may repeat an address
        return f"the host answers {error.code} {known}".rstrip()
    if isinstance(error, urllib.error.URLError):
        inner = error.reason
        return str(getattr(inner, "strerror", None) or inner)
    if isinstance(error, http.client.InvalidURL):  # its message repeats parts of the address
        return "it is not a valid address"
    return str(getattr(error, "strerror", None) or type(error).__name__)
