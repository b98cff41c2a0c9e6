"""A Label Studio of the tests: it gives files and tasks to whom has a token, and notes what it was asked."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.http_listener import listening

TOKEN = "a-legacy-token"


def make_jwt(**claims: Any) -> str:
    """Return a JSON web token that nobody has signed."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts] + ["x"])


REFRESH_TOKEN = make_jwt(token_type="refresh", exp=time.time() + 10**6)
ACCESS_TOKEN = make_jwt(token_type="access", exp=time.time() + 10**5)  # tests begin long after this
AUTHORIZATIONS = (f"Token {TOKEN}", f"Bearer {ACCESS_TOKEN}")


class Site(ThreadingHTTPServer):
    """files: by path. redirects: addresses by path. tasks: of /api/tasks. asked: paths, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.tasks: list[dict[str, Any]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, path: str) -> int:
        return sum(asked == path for asked in self.asked)


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = urlsplit(self.path).path
        if self.path in self.server.redirects:
            self.answer(302, b"", location=self.server.redirects[self.path])
        elif self.headers.get("authorization") not in AUTHORIZATIONS:
            self.answer(401, b'{"detail": "Authentication credentials were not provided."}')
        elif path == "/api/tasks/":
            page = int(parse_qs(urlsplit(self.path).query)["page"][0])
            tasks = self.server.tasks[(page - 1) * 100 : page * 100]
            self.answer(200, json.dumps({"tasks": tasks, "total": len(self.server.tasks)}).encode())
        elif (data := self.server.files.get(path)) is not None:
            self.answer(200, data)
        else:
            self.answer(404, b"")

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/api/token/refresh/" and body == {"refresh": REFRESH_TOKEN}:
            self.answer(200, json.dumps({"access": ACCESS_TOKEN}).encode())
        else:
            self.answer(401, b"{}")

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def run_site() -> Iterator[Site]:
    site = Site()
    with listening(site):
        yield site
