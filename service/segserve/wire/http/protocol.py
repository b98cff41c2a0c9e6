"""uvicorn's HTTP protocol with limits on connections, headers and slow clients (slowloris), which it does not have.

uvicorn accepts headers of any size, however slowly they come, and keeps a connection for ever if the client does not
read its answer. Here:

- Headers may take MAX_HEADER_BYTES and the setting `header_timeout_s`. The same time holds for a connection without a
  request, and for the rest of a body whose request is answered already.
- A client that reads less than MIN_BYTES_PER_S of its answer over `body_timeout_s` loses the connection.
- Between requests uvicorn's own keep-alive timeout holds.
- Nothing of a new connection is parsed before it is its client's turn, and nothing of a pipelined request before the
  answer to the one before is complete: until then we hold what was received, and read no more.
- `ConnectionLimits` says how many connections there may be. Surplus ones are accepted and marked SURPLUS: requests of
  operators are answered on them, all others are refused (`middleware.InFlightLimit`). Further ones are closed at once.
- A client that vanished without a word is noticed by TCP after TCP_TIMEOUT_S.
"""

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.client_address import client_of_address, is_in_networks
from segserve.wire.http.connections import ConnectionLimits, Phase
from segserve.wire.http.limits import (
    MAX_HEADER_BYTES,
    MAX_PIPELINED,
    MAX_UNPARSED_BYTES,
    MIN_BYTES_PER_S,
    TCP_TIMEOUT_S,
)
from segserve.wire.http.problems import problem_response
from segserve.wire.http.tls_gate import ServerContext, TlsGate

SURPLUS = "surplus"  # key in the state of a request's scope
# After a refusal, data that still comes is discarded for this long. A reset could overtake the answer.
LINGER_S = 2.0
# At the end of the server a connection is looked at so often before it counts as idle, and is closed.
SHUTDOWN_LOOKS = 2
SHUTDOWN_LOOK_S = 0.05
HEADERS_END = b"\r\n\r\n"


def create_protocol(
    settings: Settings,
    metrics: Metrics,
    connections: ConnectionLimits,
    context: ServerContext | None = None,
) -> type[asyncio.Protocol]:
    """The protocol, as uvicorn's Config takes it in `http`. context: of TLS; None speaks without it."""
    protocol = partial(LimitedProtocol, settings, metrics, connections)
    if context is None:
        return cast(type[asyncio.Protocol], protocol)
    return cast(type[asyncio.Protocol], partial(TlsGate, context, protocol, settings, metrics, connections))


class TooManyPipelined(Exception):
    """Ends the parsing of what a client sent at once. The connection is closed already."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. handshake: the gate that it came through; None without TLS."""

    client_key: str | None  # see `Connection`

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        connections: ConnectionLimits,
        *,
        handshake: TlsGate | None = None,
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._handshake = handshake
        self._header_timeout_s, self._body_timeout_s = settings.header_timeout_s, settings.body_timeout_s
        self._trusted_proxies, self._metrics = settings.trusted_proxies, metrics
        self._limits = connections
        self._has_turn = False  # this new connection may be read from
        self._unparsed = b""  # what was received, while it waits for its turn
        self._body_bytes_left: int | None = 0  # None: the length of the body is not known beforehand
        self._in_headers = True  # or between requests
        self._has_completed = False  # headers or a request were completed by the data that is being parsed
        self._has_received = False  # any data, ever
        self._header_bytes_left = MAX_HEADER_BYTES
        self._is_refused = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._unanswered: list[RequestResponseCycle] = []  # of pipelined requests there are several

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else None
        is_proxy = is_in_networks(address, self._trusted_proxies)
        self.client_key = None if is_proxy else client_of_address(address)
        if self._handshake is not None:
            self._handshake.leave()
        if not self._limits.admit(self):
            self._metrics.requests.count_rejection("connections")
            transport.abort()
        else:
            self._limits.connection_starts.start(self.client_key, self._take_turn)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in self._unanswered:  # uvicorn tells only the last one
            cycle.disconnected = True
            cycle.message_event.set()
        self._unparsed = b""
        self._limits.remove(self)
        self._stop_header_timer()
        self._stop_reader_timer()

    def shutdown(self) -> None:
        """Close the connection when the server stops, once what was received is answered.

        uvicorn closes every connection whose latest request is answered: the next one, which may have arrived already
        and wait for its turn, or lie in the kernel where the event loop is slow, would be lost without an answer.
        """
        self._close_when_idle(SHUTDOWN_LOOKS)

    def _close_when_idle(self, looks: int) -> None:
        """Close, unless something is being received or answered: then that closes it. looks: how often to look first.
        Between two looks the event loop reads what has arrived."""
        if self.transport.is_closing():
            return
        if self._is_answering():
            self.cycle.keep_alive = False
        elif looks or not self._has_turn:
            self.loop.call_later(SHUTDOWN_LOOK_S, self._close_when_idle, max(0, looks - 1))
        elif not self._unparsed and self._in_headers and self._header_bytes_left == MAX_HEADER_BYTES:
            self.transport.close()

    def shed(self) -> None:
        """Close at once, without an answer: another connection needs the place."""
        self._is_refused = True
        self.transport.abort()

    # Turns: what was received is parsed when it is its turn.

    def _take_turn(self) -> bool:
        """Begin to read. Return False if the connection is closed already."""
        if self.transport.is_closing():
            return False
        self._has_turn = True
        set_tcp_timeout(self.transport)
        self._start_header_timer()
        self.flow.resume_reading()
        self._parse()
        return True

    def _must_wait(self) -> bool:
        return not self._has_turn or (self._in_headers and self._is_answering())

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._has_received = True
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse()

    def _parse(self) -> None:
        """Parse what was received, as far as it is its turn."""
        cuts_headers = True
        while self._unparsed and not self._is_refused and not self.transport.is_closing():
            if self._must_wait():
                self._wait()
                return
            part, was_in_headers = self._take_part(cuts_headers=cuts_headers), self._in_headers
            self._has_completed = False
            super().data_received(part)
            self._note_progress()
            if self._in_headers:
                self._count_header_bytes(len(part))
            # Else what has an end of headers in every four bytes would be parsed in so many parts.
            cuts_headers = not was_in_headers or self._has_completed

    def _wait(self) -> None:
        if len(self._unparsed) > MAX_UNPARSED_BYTES:
            self._abort_pipelining()
        else:
            self.flow.pause_reading()

    def _take_part(self, *, cuts_headers: bool) -> bytes:
        """Take what is parsed next: no more than the headers, or the body, of one request, as far as its end is known
        beforehand."""
        data = self._unparsed
        length = len(data)
        if self._in_headers:
            length = min(length, self._header_bytes_left)
            if cuts_headers and (end := data.find(HEADERS_END, 0, length)) >= 0:
                length = end + len(HEADERS_END)
        elif self._body_bytes_left:
            length = min(length, self._body_bytes_left)
            self._body_bytes_left -= length
        self._unparsed = data[length:]
        return data[:length]

    def _abort_pipelining(self) -> None:
        self._metrics.requests.count_rejection("pipelined")
        self._is_refused = True
        self.transport.abort()

    # Headers: their size, and the time they take.

    def _note_progress(self) -> None:
        """Note what is incomplete after a part was parsed. A request that came as a whole costs nothing here."""
        if self._in_headers:
            if self._has_completed or self._is_answering():
                return  # nothing of the next request is here, or it is a pipelined one behind a busy connection
            if self._header_timer is None:  # the first bytes of headers; those that follow are no progress
                self._limits.note(self, Phase.HEADERS)
                self._start_header_timer()
        elif not self._unparsed and not self.pipeline:
            self._limits.note(self, Phase.BODY)

    def _count_header_bytes(self, count: int) -> None:
        # If the part completed a request, it is unknown how many of its bytes belong to the next one.
        self._header_bytes_left = MAX_HEADER_BYTES if self._has_completed else self._header_bytes_left - count
        if not self._header_bytes_left:
            self._refuse(
                431,
                "header_size",
                f"Request line and headers are over {MAX_HEADER_BYTES >> 10} KiB.",
                "Send fewer or shorter headers.",
            )

    def on_headers_complete(self) -> None:
        self._in_headers, self._has_completed = False, True
        self._stop_header_timer()
        self._body_bytes_left = read_content_length(self.headers)
        self.scope["state"][SURPLUS] = self._limits.is_surplus(self)
        super().on_headers_complete()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        self._unanswered.append(self.cycle)
        if len(self.pipeline) > MAX_PIPELINED:
            self._abort_pipelining()
            raise TooManyPipelined

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        def begin() -> bool:
            if self.transport.is_closing():
                return False
            super(LimitedProtocol, self)._start_asgi_task(cycle, app)
            return True

        self._limits.request_starts.start(self.client_key, begin)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._has_completed = True, True
        self._header_bytes_left = MAX_HEADER_BYTES
        if not self.cycle.response_complete:
            self._limits.note(self, Phase.ANSWERING)
        else:  # the answer came before the whole body: only now is the connection idle
            self._limits.note(self, Phase.IDLE)
            self._stop_header_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._header_timeout_s, self._on_header_timeout)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        if self.transport.is_closing():
            return
        if self._is_answering():
            self._start_header_timer()  # the client may wait for the answer before it goes on
        elif self._in_headers and self._has_received:
            self._refuse(
                408,
                "header_timeout",
                f"The headers were not complete within {self._header_timeout_s:g} s.",
                "Send them at once.",
            )
        else:
            self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Refusals that no route sees.

    def send_400_response(self, msg: str) -> None:
        self._metrics.requests.count_rejection("malformed")
        self._close_with(400, "bad_request", msg, "Send HTTP/1.1, and without TLS.")

    def _refuse(self, status: int, reason: str, detail: str, remedy: str) -> None:
        self._metrics.requests.count_rejection(reason)
        self._close_with(status, reason, detail, remedy)

    def _close_with(self, status: int, code: str, detail: str, remedy: str) -> None:
        if self._is_refused:  # nothing may follow the end of the refusal
            return
        self._is_refused, self._unparsed = True, b""
        self._stop_header_timer()
        if self._is_answering():  # the client pipelines: the refusal would end up inside the answer before it
            self.transport.abort()
            return
        response = problem_response(status, code, detail, remedy=remedy)
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    # Answers: whether the client reads them.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_headers:
            self._start_header_timer()  # for the rest of the body
        elif not self._is_answering():  # no pipelined request was started
            self._limits.note(self, Phase.IDLE)
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._start_reader_timer()
        self._parse()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_reader_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader_timer()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait until it is read
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_reader_timer(self) -> None:
        """Begin to watch the client while nothing more is written: the buffer is full, or holds the last answer."""
        if self._reader_timer is None:
            unread = self.transport.get_write_buffer_size()
            self._reader_timer = self.loop.call_later(self._body_timeout_s, self._check_reader, unread)

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _check_reader(self, unread_before: int) -> None:
        self._reader_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread and unread_before - unread < MIN_BYTES_PER_S * self._body_timeout_s:
            self._metrics.requests.count_rejection("slow_reader")
            self.transport.abort()
        elif unread:
            self._start_reader_timer()


def read_content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return how long the body of a request is. None if it is chunked. The parser has checked the headers."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0


def set_tcp_timeout(transport: asyncio.Transport) -> None:
    """Let TCP end a connection whose other side no longer answers, whether data is under way or not."""
    link = transport.get_extra_info("socket")
    if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_USER_TIMEOUT", 1000 * TCP_TIMEOUT_S),
        ("TCP_KEEPIDLE", TCP_TIMEOUT_S // 2),
        ("TCP_KEEPINTVL", TCP_TIMEOUT_S // 6),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, option):
            with suppress(OSError):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
