"""A small Hugging Face Hub: one process, files in memory, the requests that its client makes."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_small"


class SmallHub:
    """The repositories of a hub, and what was asked of it.

    Attributes:
        repositories: files by repository and name.
        requests: method and path of each request.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    def commit_of(self, name: str) -> str:
        """Returns the commit of a repository, which follows from its files."""
        digest = hashlib.sha1()
        for file, content in sorted(self.repositories[name].items()):
            digest.update(file.encode() + content)
        return digest.hexdigest()


@contextmanager
def small_hub() -> Iterator[tuple[str, SmallHub]]:
    """Yields the address of a running hub, and its contents."""
    hub = SmallHub()

    class Handler(_Handler):
        contents = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    contents: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        self._file(with_body=True)

    def _file(self, *, with_body: bool) -> None:
        self.contents.requests.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        repository = self.contents.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        content = repository.get(found[3])
        commit = self.contents.commit_of(found[1])
        if found[2] not in ("main", commit):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._answer(404, b"", headers)
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"X-Repo-Commit": commit, "ETag": etag}
            self._answer(200, content, headers, with_body=with_body)

    def do_POST(self) -> None:
        self.contents.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/api/validate-yaml":
            assert "model-index" in json.loads(body)["content"]
            self._json(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            assert asked.get("private") is True or asked.get("visibility") == "private"
            self.contents.repositories.setdefault(name, {})
            self._json(200, {"url": f"http://{self.headers['Host']}/{name}"})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            more = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            files = [{**file, **more} for file in json.loads(body)["files"]]
            self._json(200, {"files": files})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            repository = self.contents.repositories[found[1]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repository[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = self.contents.commit_of(found[1])
            url = f"http://{self.headers['Host']}/{found[1]}/commit/{oid}"
            self._json(
                200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""}
            )
        else:
            self._json(404, {"error": "unknown"})

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, content: bytes, headers: dict[str, str], *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
