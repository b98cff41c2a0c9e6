"""HTTP/2 over a bare socket (RFC 9113), for gRPC clients that are slow, silent or rude."""

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

HANG_S = 60
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS = 4, 3


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawHttp2:
    """A connection. window: bytes of each answer that may come, which is never raised."""

    def __init__(self, target: str, *, client: str = "127.0.0.1", window: int = 65535) -> None:
        host, port = target.rsplit(":", 1)
        self.link = socket.create_connection((host, int(port)), HANG_S, (client, 0))
        self._next_stream = 1
        self._received = b""
        setting = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.link.sendall(PREFACE + frame(SETTINGS, 0, 0, setting))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.link.close()

    def open_call(self, method: str) -> int:
        """Send the headers of a call and no message. Return its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # HPACK (RFC 7541), 6.2.2: literal fields that are not indexed.
        block = b"".join(b"\0" + literal(name) + literal(value) for name, value in headers.items())
        self.link.sendall(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, message: bytes, *, last: bool = True) -> None:
        """Send a message of gRPC."""
        data = struct.pack(">BI", 0, len(message)) + message
        self.link.sendall(frame(DATA, END_STREAM if last else 0, stream, data))

    def reset(self, stream: int) -> None:
        self.link.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))

    def read_frame(self) -> Frame | None:
        """The next frame; None where the server has closed the connection. Answers settings and pings."""
        while True:
            head = self._read(9)
            if head is None:
                return None
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = self._read(length)
            if payload is None:
                return None
            if kind in (SETTINGS, PING) and not flags & ACK:
                with suppress(BrokenPipeError, ConnectionResetError):  # closed, but frames may still be here
                    self.link.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            return Frame(kind, flags, int.from_bytes(head[5:], "big"), payload)

    def read_until(self, *kinds: int, stream: int) -> Frame | None:
        """The next frame of these kinds on a stream."""
        deadline = time.monotonic() + HANG_S
        while (received := self.read_frame()) is not None:
            assert time.monotonic() < deadline
            if received.kind in kinds and received.stream == stream:
                return received
        return None

    def _read(self, count: int) -> bytes | None:
        while len(self._received) < count:
            try:
                part = self.link.recv(65536)
            except ConnectionResetError:
                return None
            if not part:
                return None
            self._received += part
        result, self._received = self._received[:count], self._received[count:]
        return result


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(text: str) -> bytes:
    """A string literal (5.2) without Huffman coding."""
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()
