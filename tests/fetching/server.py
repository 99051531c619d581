"""A web server in a thread, with the faults that real ones show; and a hub of repositories on it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves bytes by path.

    Attributes
    ----------
    contents : dict, path -> bytes
    faults : dict, path -> list
        What happens at the next requests of a path, one entry each: an int n (the connection ends after n
        bytes of the answer), "stall" with n (it falls silent there), ("status", code)
        or ("redirect", URL).
    ranges : bool
        Whether parts can be asked for.
    asked : list of (path, Range header)
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ask_count(self) -> int:
        return len(self.asked)

    def add_repository(
        self, repo_id: str, repo_type: str, revision: str, files: dict[str, bytes], licence: str | None = None
    ) -> None:
        """Serve a repository as a hub does: its list of files under /api, each file under resolve/COMMIT."""
        kind = "datasets" if repo_type == "dataset" else "models"
        prefix = f"/datasets/{repo_id}" if repo_type == "dataset" else f"/{repo_id}"
        siblings = []
        for name, content in files.items():
            self.contents[f"{prefix}/resolve/{COMMIT}/{name}"] = content
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name.endswith(".bin"):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        info = {
            "id": repo_id,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            **({"cardData": {"license": licence}} if licence else {}),
        }
        self.contents[f"/api/{kind}/{repo_id}/revision/{revision}"] = json.dumps(info).encode()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append((path, self.headers.get("Range")))
        fault = self.server.faults[path].pop(0) if self.server.faults[path] else None
        if isinstance(fault, tuple) and fault[0] == "status":
            self.send_error(fault[1])
            return
        if isinstance(fault, tuple) and fault[0] == "redirect":
            self.send_response(302)
            self.send_header("Location", fault[1])
            self.end_headers()
            return
        content = self.server.contents.get(path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.server.ranges:
            start = int(asked[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if isinstance(fault, int):
            body = body[:fault]
            self.close_connection = True
        elif isinstance(fault, tuple):
            self.wfile.write(body[: fault[1]])
            self.wfile.flush()
            self.server.closing.wait(30)
            return
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
