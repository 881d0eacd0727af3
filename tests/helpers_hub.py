"""A small hub on this machine: answers what `datasets` and `huggingface_hub` ask for data sets, and counts bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """The repositories of data sets: name -> path -> content; and what was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # paths that are listed and not there
    url: str = ""
    asked: list[str] = field(default_factory=list)  # method and path of every request
    sent: dict[str, int] = field(default_factory=dict)  # path in a repository -> bytes sent

    def revision(self, name: str) -> str:
        """Return the commit of a repository: a hash of its content."""
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """Run a hub while the block runs."""
    served = Hub()

    class Handler(_Handler):
        hub = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[2], found[3])
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path)
        if found is None or (refusal := self._refusal(found[1], found[3])):
            return self._send(404 if found is None else refusal[0], headers={} if found is None else refusal[1])
        name, kind, _, below = found.groups()
        files = self.hub.repositories[name]
        if kind in (None, "revision"):
            info = {
                "id": name,
                "sha": self.hub.revision(name),
                "private": False,
                "gated": False,
                "tags": [],
                "downloads": 0,
            }
            return self._json({**info, "disabled": False, "siblings": [{"rfilename": file} for file in sorted(files)]})
        if kind == "paths-info":
            wanted = json.loads(body)["paths"]
            return self._json([entry for entry in _entries(files, "", True) if entry["path"] in wanted])
        recursive = "recursive=true" in self.path.lower()
        entries = _entries(files, below or "", recursive)
        return (
            self._json(entries) if entries or not below else self._send(404, headers={"X-Error-Code": "EntryNotFound"})
        )

    def _refusal(self, name: str, revision: str | None) -> tuple[int, dict[str, str]] | None:
        if name not in self.hub.repositories:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        if revision not in (None, "main", self.hub.revision(name)):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}
        return None

    def _file(self, name: str, revision: str, path: str) -> None:
        refusal = self._refusal(name, revision)
        if refusal is None and name in self.hub.gated:
            refusal = 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
        if refusal is None and (path in self.hub.lost or path not in self.hub.repositories[name]):
            refusal = 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"}
        if refusal:
            return self._send(refusal[0], headers=refusal[1])
        data = self.hub.repositories[name][path]
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.hub.revision(name), "Accept-Ranges": "bytes"
        }  # fmt: skip
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self._send(200, data, headers, path)
        first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._send(206, data[first : last + 1], headers, path)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, path: str = "") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            if path:
                self.hub.sent[path] = self.hub.sent.get(path, 0) + len(data)


def _entries(files: dict[str, bytes], below: str, recursive: bool) -> list[dict[str, object]]:
    """Return the files and folders below a folder, as the hub lists them."""
    start = f"{below}/" if below else ""
    found: dict[str, dict[str, object]] = {}
    for path in sorted(file for file in files if file.startswith(start)):
        parts = path[len(start) :].split("/")
        for end in range(1, len(parts) if recursive or len(parts) == 1 else 2):
            folder = start + "/".join(parts[:end])
            found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            oid = hashlib.sha1(files[path]).hexdigest()
            found[path] = {"type": "file", "path": path, "oid": oid, "size": len(files[path])}
    return list(found.values())
