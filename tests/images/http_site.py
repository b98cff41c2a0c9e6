"""An HTTP server, a resolver and a fetch for tests of images fetched by URL."""

import asyncio
import io
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import pytest

from segserve.errors import SegserveError
from segserve.images.fetch_url import ImageFetcher
from segserve.outbound_http import Address
from tests.http_listener import listening

HERE, INNER = "127.0.0.1", "127.0.0.2"
IMAGE = b"the bytes of an image" * 1000
MAX_BYTES = 1_000_000

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """An HTTP server; `requests` holds the Host and the path of each request."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str | None, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.headers["Host"], self.path))
                site.headers = self.headers
                with suppress(BrokenPipeError, ConnectionResetError):
                    site.answers.get(self.path, answer(200, IMAGE))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((address, port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http://{address}:{self.port}"
        self._listening = ExitStack()
        self._listening.enter_context(listening(self.server))

    def close(self) -> None:
        self._listening.close()


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    def send(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    return send


class FakeResolver:
    """A resolver of the given names; a name with several answers gives a new one at each call."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = {name.replace("_", "."): list(answers) for name, answers in addresses.items()}
        self.resolved: list[str] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.resolved.append(host)
        answers = self.addresses[host]
        return [ip_address(a) for a in (answers.pop(0) if len(answers) > 1 else answers[0]).split()]


def fetch(url: str, *hosts: str, private: bool = True, timeout_s: float = 30, **options: Any) -> bytes:
    file = io.BytesIO()
    fetcher = ImageFetcher(hosts, private=private, timeout_s=timeout_s, max_bytes=MAX_BYTES, **options)
    asyncio.run(fetcher.fetch(url, file))
    return file.getvalue()


@contextmanager
def expect_refusal(error: type[SegserveError], words: str) -> Iterator[pytest.ExceptionInfo[SegserveError]]:
    with pytest.raises(error, match=words) as raised:
        yield raised
    assert type(raised.value) is error
    assert raised.value.field == "url"
    assert raised.value.remedy
