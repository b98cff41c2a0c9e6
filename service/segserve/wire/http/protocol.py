"""uvicorn's HTTP protocol with the limits that it lacks.

It takes headers of any size, however slowly they come, and keeps a connection for ever whose client reads
nothing. Here a request that has not begun, or whose headers are not complete, has `header_timeout_s`; so has
the rest of a body whose request is answered already. A client that reads less than MIN_BYTES_PER_S of its
answer over `body_timeout_s` loses the connection. Between requests uvicorn's own keep-alive timeout holds.

Of connections `max_connections` are served. What comes on SPARE more is marked SURPLUS, so that operators still get
their answers there and everybody else a refusal (`middleware.InFlight`); further ones are closed at once.
"""

import asyncio
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.http.problems import problem

MAX_HEADER_BYTES = 32 << 10  # request line and headers together
MIN_BYTES_PER_S = 8 << 10  # of a body that comes, of an answer that goes; slower is stalled or hostile
SPARE = 32  # connections
SURPLUS = "surplus"  # in the state of a request's scope
LINGER_S = 2.0  # after a refusal: what still comes is thrown away, so that no reset overtakes the answer


def limited(settings: Settings, metrics: Metrics) -> type[asyncio.Protocol]:
    """What uvicorn's Config takes as `http`."""
    made = partial(LimitedProtocol, settings, metrics)
    return cast(type[asyncio.Protocol], made)


class LimitedProtocol(HttpToolsProtocol):
    def __init__(self, settings: Settings, metrics: Metrics, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._header_timeout_s, self._body_timeout_s = settings.header_timeout_s, settings.body_timeout_s
        self._max_connections, self._metrics = settings.max_connections, metrics
        self._surplus = False
        self._in_headers = True  # or between requests
        self._completed = False  # a request's headers, or a request, in the data that is being parsed
        self._begun = False  # something has been sent, ever
        self._room = MAX_HEADER_BYTES
        self._refused = False
        self._clock: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._surplus = len(self.connections) > self._max_connections
        if len(self.connections) > self._max_connections + SPARE:
            self._metrics.requests.count_rejection("connections")
            transport.abort()
        else:
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_clock()
        self._stop_reader()

    # Headers: their size, and the time they take.

    def data_received(self, data: bytes) -> None:
        self._begun = True
        while data and not self._refused and not self.transport.is_closing():
            step = data[: self._room] if self._in_headers else data
            data = data[len(step) :]
            if self._in_headers:
                self._start_clock()
            self._completed = False
            super().data_received(step)
            if self._in_headers:
                # Where something was completed, it is unknown how much of the step is the next request's.
                self._room = MAX_HEADER_BYTES if self._completed else self._room - len(step)
                if not self._room:
                    self._refuse(
                        431,
                        "header_size",
                        f"Request line and headers are over {MAX_HEADER_BYTES >> 10} KiB.",
                        "Send fewer or shorter headers.",
                    )

    def on_headers_complete(self) -> None:
        self._in_headers, self._completed = False, True
        self._stop_clock()
        self._surplus = self._surplus and len(self.connections) > self._max_connections
        self.scope["state"][SURPLUS] = self._surplus
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers, self._completed = True, True
        self._room = MAX_HEADER_BYTES
        if self.cycle.response_complete:  # answered before its body was there: now the connection is idle
            self._stop_clock()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(self._header_timeout_s, self._too_late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_late(self) -> None:
        self._clock = None
        if self.transport.is_closing():
            return
        if self._answering():
            self._start_clock()  # the client may well wait for it before it goes on
        elif self._in_headers and self._begun:
            self._refuse(
                408,
                "header_timeout",
                f"The headers were not complete within {self._header_timeout_s:g} s.",
                "Send them at once.",
            )
        else:
            self.transport.abort()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        self._close_with(400, "bad_request", msg, "Send HTTP/1.1, and without TLS.")

    def _refuse(self, status: int, reason: str, detail: str, remedy: str) -> None:
        self._metrics.requests.count_rejection(reason)
        self._close_with(status, reason, detail, remedy)

    def _close_with(self, status: int, code: str, detail: str, remedy: str) -> None:
        self._refused = True
        if self._answering():  # pipelined: this would end up inside the answer before it
            self.transport.abort()
            return
        answer = problem(status, code, detail, remedy=remedy)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    # Answers: whether they are read.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_headers:
            self._start_clock()  # for the rest of the body
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait until it is read
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _watch_reader(self) -> None:
        """While nothing more is written: the buffer is full, or the last answer is in it."""
        if self._reader is None:
            unread = self.transport.get_write_buffer_size()
            self._reader = self.loop.call_later(self._body_timeout_s, self._check_reader, unread)

    def _stop_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _check_reader(self, before: int) -> None:
        self._reader = None
        unread = self.transport.get_write_buffer_size()
        if unread and before - unread < MIN_BYTES_PER_S * self._body_timeout_s:
            self._metrics.requests.count_rejection("slow_reader")
            self.transport.abort()
        elif unread:
            self._watch_reader()
