"""A model hub on this machine that the real huggingface_hub library downloads from.

Serves folders under ids, with byte ranges, and can cut connections off in the middle of a file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

_COMMIT = "c" * 40
_RESOLVE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")
_API = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)(?P<rest>/.*)?$")


class HubDouble:
    """Use as a context manager; `models` maps ids to folders."""

    def __init__(self, models: dict[str, Path]) -> None:
        self.models = models
        # Bytes after which a file's connection is cut; None never.
        self.cut_after: int | None = None
        # Where each download of a file began.
        self.ranges: list[int] = []

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            double = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def point_to(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Make the library of this process use this hub, and a cache of the test's own. It read both
        from the environment when it was imported.
        """
        from huggingface_hub import constants

        address = f"http://127.0.0.1:{self._server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # What came is kept chunk by chunk; tiny files are smaller than one of the library's own.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16 * 1024)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)


class _Handler(BaseHTTPRequestHandler):
    double: HubDouble
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if found := _API.match(path):
            self._describe(found["id"])
        elif (found := _RESOLVE.match(path)) and found["id"] in self.double.models:
            file = self.double.models[found["id"]] / found["file"]
            if file.is_file():
                self._send_file(file, body=body)
            else:
                self._refuse("EntryNotFound")
        else:
            self._refuse("RepoNotFound")

    def _describe(self, model: str) -> None:
        folder = self.double.models.get(model)
        if folder is None:
            self._refuse("RepoNotFound")
            return
        files = sorted(folder.iterdir())
        if "/tree/" in self.path:
            content: Any = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _etag(f)}
                for f in files
            ]
        else:
            siblings = [{"rfilename": file.name} for file in files]
            content = {"id": model, "sha": _COMMIT, "siblings": siblings}
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send_file(self, file: Path, *, body: bool) -> None:
        content = file.read_bytes()
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        headers = {
            "ETag": f'"{_etag(file)}"',
            "X-Repo-Commit": _COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
        }
        if not asked:
            del headers["Content-Range"]
        if body:
            self.double.ranges.append(start)
        self._send(206 if asked else 200, content[start:], headers, body=body)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.double.cut_after
        if body and cut is not None and len(content) > cut:
            self.wfile.write(content[:cut])
            self.wfile.flush()
            self.close_connection = True
        elif body:
            self.wfile.write(content)

    def _refuse(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not here"})

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:40]
