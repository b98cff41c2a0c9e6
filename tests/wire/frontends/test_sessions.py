"""Sessions have an owner, a limit and an end."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from segserve.app import Service
from segserve.current_client import Client, current_client
from segserve.errors import Busy
from segserve.settings import Settings
from segserve.types import FrontendName
from segserve.wire.frontends.sessions import SessionNotFound, Sessions

LONG_S = 3600.0


class Opened:
    """Sessions of texts, and the texts whose sessions have ended."""

    def __init__(self, folder: Path, silence_s: float | None = None, **settings: float) -> None:
        options = {"max_sessions": 4, "session_idle_s": LONG_S, "session_max_s": LONG_S, **settings}
        self.service = Service(Settings(data_dir=folder, redis_url="unix:///nowhere", **options))  # type: ignore[arg-type]
        self.ended: list[str] = []
        self.sessions = Sessions[str](self.service, FrontendName.OPEN_INFERENCE, self._end, silence_s)

    async def _end(self, value: str) -> None:
        self.ended.append(value)

    def metric(self, line: str) -> float:
        found = [
            text for text in self.service.metrics.expose().decode().splitlines() if text.startswith(line)
        ]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def open_count(self) -> float:
        return self.metric('segserve_frontend_sessions{frontend="open-inference"}')

    async def wait_for_end(self, count: int = 1) -> None:
        async with asyncio.timeout(60):
            while len(self.ended) < count:
                await asyncio.sleep(0.01)


def test_a_session_is_its_clients_and_no_one_elses(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path)
        current_client.set(Client("t", "10.0.0.1"))
        session_id = opened.sessions.open("a")
        with opened.sessions.use(session_id) as value:
            assert value == "a"
        current_client.set(Client("t", "10.0.0.2"))
        with pytest.raises(SessionNotFound), opened.sessions.use(session_id):
            pass
        with pytest.raises(SessionNotFound):
            opened.sessions.end(session_id)
        assert opened.open_count() == 1

    asyncio.run(run())


def test_a_session_ends_once_when_the_client_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path)
        session_id = opened.sessions.open("a")
        opened.sessions.end(session_id)
        await opened.wait_for_end()
        with pytest.raises(SessionNotFound):
            opened.sessions.end(session_id)
        assert opened.ended == ["a"]
        assert opened.open_count() == 0

    asyncio.run(run())


def test_a_vanished_client_holds_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path, session_idle_s=0.05)
        opened.sessions.open("a")
        await opened.wait_for_end()
        assert opened.open_count() == 0
        ended = 'segserve_frontend_sessions_ended_total{frontend="open-inference",reason="idle"}'
        assert opened.metric(ended) == 1

    asyncio.run(run())


def test_a_session_in_use_is_not_idle_but_grows_old(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path, session_idle_s=0.02, session_max_s=0.5)
        session_id = opened.sessions.open("a")
        with opened.sessions.use(session_id):
            await asyncio.sleep(0.2)
            assert opened.ended == []
            await opened.wait_for_end()
        ended = 'segserve_frontend_sessions_ended_total{frontend="open-inference",reason="age"}'
        assert opened.metric(ended) == 1

    asyncio.run(run())


def test_a_client_that_gives_signs_of_life_may_idle_but_not_be_silent(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path, silence_s=0.3)
        session_id = opened.sessions.open("a")
        for _ in range(10):
            await asyncio.sleep(0.1)
            opened.sessions.touch(session_id)
            assert opened.ended == []
        assert opened.sessions.idle_left_s(session_id) <= LONG_S - 1
        await opened.wait_for_end()
        with pytest.raises(SessionNotFound):
            opened.sessions.touch(session_id)
        ended = 'segserve_frontend_sessions_ended_total{frontend="open-inference",reason="silent"}'
        assert opened.metric(ended) == 1

    asyncio.run(run())


def test_signs_of_life_are_no_use(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path, silence_s=LONG_S, session_idle_s=0.1)
        session_id = opened.sessions.open("a")
        with suppress(SessionNotFound):
            while not opened.ended:
                opened.sessions.touch(session_id)
                await asyncio.sleep(0.01)
        await opened.wait_for_end()
        ended = 'segserve_frontend_sessions_ended_total{frontend="open-inference",reason="idle"}'
        assert opened.metric(ended) == 1

    asyncio.run(run())


def test_one_client_has_its_share_and_all_have_a_limit(tmp_path: Path) -> None:
    async def run() -> None:
        opened = Opened(tmp_path)
        for client in ("10.0.0.1", "10.0.0.2"):
            current_client.set(Client("t", client))
            for _ in range(2):
                opened.sessions.open(client)
            with pytest.raises(Busy):
                opened.sessions.reserve()
        current_client.set(Client("t", "10.0.0.3"))
        with pytest.raises(Busy):
            opened.sessions.open("c")
        assert opened.open_count() == 4

    asyncio.run(run())
