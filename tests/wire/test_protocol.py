"""The HTTP protocol over a transport that only notes what is done with it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.http import fair_start
from segserve.wire.http.connections import ConnectionLimits
from segserve.wire.http.limits import BURST_CONNECTIONS, MAX_UNPARSED_BYTES
from segserve.wire.http.protocol import LimitedProtocol
from tests.wire.raw_http import GET


def create_transport() -> MagicMock:
    transport = MagicMock()
    transport.is_closing.return_value = False
    transport.get_write_buffer_size.return_value = 0
    transport.get_extra_info = {"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)}.get
    return transport


def run(scenario: Callable[[Callable[[], LimitedProtocol]], None]) -> None:
    """Call the scenario with a function that opens a connection. No request is answered while it runs."""

    async def run_in_loop() -> None:
        metrics, settings, ended = Metrics(), Settings(), asyncio.Event()
        limits = ConnectionLimits(200, 0, 1.0, metrics, port="rest")
        opened = list[LimitedProtocol]()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await ended.wait()

        def connect() -> LimitedProtocol:
            protocol = LimitedProtocol(
                settings,
                metrics,
                limits,
                config=Config(app, lifespan="off"),
                server_state=ServerState(),
                app_state={},
            )
            protocol.connection_made(create_transport())
            opened.append(protocol)
            return protocol

        scenario(connect)
        for protocol in opened:
            protocol.transport.is_closing.return_value = True  # type: ignore[attr-defined]
            protocol.connection_lost(None)
        ended.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(run_in_loop())


def test_what_comes_after_a_refusal_is_discarded() -> None:
    def scenario(connect: Callable[[], LimitedProtocol]) -> None:
        protocol = connect()
        protocol.data_received(b"GET / HTTP/1.1\r\nA\r\n\r\n" + bytes(1000))
        protocol.data_received(bytes(1000))
        assert b" 400 " in protocol.transport.write.call_args[0][0]  # type: ignore[attr-defined]
        assert protocol._unparsed == b""

    run(scenario)


@pytest.mark.parametrize("already", [0, 3 * BURST_CONNECTIONS], ids=["pipelined", "not its turn"])
def test_what_has_no_turn_is_held_and_no_more_is_read(monkeypatch: pytest.MonkeyPatch, already: int) -> None:
    # No time passes: on a slow machine the client would earn turns while it connects.
    monkeypatch.setattr(fair_start, "time", SimpleNamespace(monotonic=lambda: 0.0))

    def scenario(connect: Callable[[], LimitedProtocol]) -> None:
        for _ in range(already):
            connect()
        protocol = connect()
        protocol.data_received((GET + b"\r\n") * 3)
        pausing: Any = protocol.transport.pause_reading
        assert pausing.called
        assert len(protocol._unparsed) == (3 if already else 2) * len(GET + b"\r\n")
        protocol.data_received(bytes(MAX_UNPARSED_BYTES))
        assert protocol.transport.abort.called  # type: ignore[attr-defined]

    run(scenario)
