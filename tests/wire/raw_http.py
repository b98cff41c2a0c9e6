"""HTTP over a bare socket, for clients that are slow, silent or rude."""

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

from tests.serving import Server

HANG_S = 60  # the server never takes this long, unless it hangs
PAUSE_S = 0.2  # well under the server's timeouts of one second
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


OTHER_CLIENT = "127.0.0.2"  # all of 127.0.0.0/8 is this machine, and each address is a client of its own


def connect(
    server: Server, receive_buffer: int | None = None, *, client: str = "", url: str = ""
) -> socket.socket:
    """A connection to the server, or to another URL of it.

    receive_buffer: bytes that the kernel holds for us. client: the address to connect from.
    """
    link = socket.socket()
    if receive_buffer is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    link.settimeout(HANG_S)
    if client:
        link.bind((client, 0))
    address = urlsplit(url or server.url)
    link.connect((address.hostname, address.port))
    return link


def read_until_closed(link: socket.socket) -> bytes:
    """All bytes until the server closes. A reset is a way of closing."""
    received = b""
    with suppress(ConnectionResetError):
        while part := link.recv(65536):
            received += part
    return received


def read_answer(link: socket.socket) -> bytes:
    """The next answer, which has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += (part := link.recv(65536))
        assert part, received
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += link.recv(65536)
    return head + b"\r\n\r\n" + body


def send_slowly(link: socket.socket, *pieces: bytes) -> bytes:
    """Send the pieces one by one, the last again and again, until the server answers or closes. Return its answer."""
    link.settimeout(PAUSE_S)
    deadline, index = time.monotonic() + HANG_S, 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < deadline:
            link.sendall(pieces[min(index, len(pieces) - 1)])
            index += 1
            with suppress(TimeoutError):
                if part := link.recv(65536):
                    link.settimeout(HANG_S)
                    return part + read_until_closed(link)
                return b""
    assert time.monotonic() < deadline, "the server waits for ever"
    return b""


def assert_problem(answer: bytes, status: int, code: str) -> None:
    """Check that the answer is a problem document with a remedy, and that it closes the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    assert f"urn:segserve:problem:{code}".encode() in body
    assert b'"remedy"' in body


def count_rejections(server: Server, reason: str) -> float:
    """The value of the metric for this reason."""
    text = server.client.get("/metrics").text
    sample = re.search(rf'segserve_rejections_total{{reason="{reason}"}} (\S+)', text)
    return float(sample[1]) if sample else 0


def post_and_hang_up(server: Server, path: str, body: Any) -> None:
    """Send a POST of JSON, and close the connection while the server works on it."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(content)}\r\n\r\n"
    with closing(connect(server)) as link:
        link.sendall(head.encode() + content)
        time.sleep(0.3)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
