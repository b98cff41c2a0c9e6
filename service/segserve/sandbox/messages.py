"""Small JSON messages over a unix socket, each after its length. Files (descriptors) go from the service only."""

import json
import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

MAX_MESSAGE_BYTES = 1 << 18
MAX_FILES = 2
_LENGTH = struct.Struct("!I")
# A process that needs more memory sends {CLAIM: bytes} before its reply, and waits for {GRANTED: bytes}.
CLAIM, GRANTED = "claim", "granted"
MAX_CLAIM_BYTES = 1 << 50


class ChannelClosed(Exception):
    """The other side is gone, or what it sent is no message."""


class Channel:
    """`Channel` sends and receives messages. It closes the socket that it is given."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """files: descriptors that the other side gets copies of. Raises ChannelClosed."""
        data = json.dumps(message).encode()
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes")
        packed = _LENGTH.pack(len(data)) + data
        try:
            sent = socket.send_fds(self._connection, [packed], files) if files else 0
            self._connection.sendall(packed[sent:])
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, deadline: float | None = None) -> Message:
        """Return the next message. Files that come with it are dropped.

        deadline: on the clock `time.monotonic`; None waits for ever.
        Raises ChannelClosed, TimeoutError.
        """
        return self._parse(self._read(_LENGTH.size, deadline), deadline)

    def receive_with_files(self) -> tuple[Message, list[int]]:
        """Return the next message and the files that came with it, which the caller closes. Raises ChannelClosed."""
        try:
            length, files, _, _ = socket.recv_fds(self._connection, _LENGTH.size, MAX_FILES)
        except OSError as error:
            raise ChannelClosed from error
        try:
            length += self._read(_LENGTH.size - len(length), None) if length else b""
            return self._parse(length, None), files
        except BaseException:
            for file in files:
                os.close(file)
            raise

    def _parse(self, length: bytes, deadline: float | None) -> Message:
        if len(length) != _LENGTH.size or (size := _LENGTH.unpack(length)[0]) > MAX_MESSAGE_BYTES:
            raise ChannelClosed
        try:
            message = json.loads(self._read(size, deadline))
        except (ValueError, RecursionError):
            raise ChannelClosed from None
        if not isinstance(message, dict):
            raise ChannelClosed
        return message

    def _read(self, size: int, deadline: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                if deadline is not None:
                    self._connection.settimeout(max(deadline - time.monotonic(), 1e-6))
                part = self._connection.recv(size - len(data))
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed from error
            if not part:
                raise ChannelClosed
            data += part
        return bytes(data)

    def close(self) -> None:
        self._connection.close()
