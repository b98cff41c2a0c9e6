"""Open files are shared fairly among clients, and what is made of frames counts as memory."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from segserve.current_client import Client, current_client
from segserve.files import frame_reader
from segserve.files.file_view import FileView
from segserve.files.frame_reader import MAX_OPEN_FILES, FrameReader
from segserve.memory_budget import MemoryBudget
from segserve.types import FileKind, FileRecord, Size, UInt8

SIZE = Size(20, 30)
EXTRA_BYTES = 5000


def make_record(name: str) -> FileRecord:
    return FileRecord(name, FileKind.FRAMES, "TIFF", 5, SIZE, 100, 0.0)


class Library:
    """In place of `FileLibrary`: files are names."""

    @asynccontextmanager
    async def local_copy(self, tenant: str, file_id: str) -> AsyncIterator[tuple[FileRecord, Path]]:
        yield make_record(file_id), Path(file_id)


class Readers:
    """In place of `FileReaders`: calls run in asyncio's threads."""

    def group(self) -> "Readers":
        return self

    async def run(self, function: Any, *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    def kill(self) -> None: ...


class Source:
    def read(self, view: FileView, index: int) -> UInt8:
        return np.full((SIZE.height, SIZE.width, 3), index, np.uint8)


@contextmanager
def open_source(record: FileRecord, path: Path, readers: Readers) -> Iterator[Source]:
    yield Source()


class Reader(FrameReader):
    """`Reader` is a frame reader, with what a test asks it."""

    def __init__(self, max_client_share: float = 0.5) -> None:
        self.memory = MemoryBudget(1 << 30, "SEGSERVE_IMAGE_MEMORY_MB", max_wait_s=60)
        super().__init__(cast(Any, Library()), cast(Any, Readers()), self.memory, max_client_share)

    async def look(self, client: str, name: str, until: threading.Event | None = None) -> int:
        """Return the first value of frame 3, once `until` is set."""
        current_client.set(Client("t", client))

        def convert(pixels: UInt8) -> int:
            if until is not None:
                assert until.wait(60)
            return int(pixels[0, 0, 0])

        view = FileView(name)
        return await self.convert("t", make_record(name), view, 3, convert, lambda size: EXTRA_BYTES)

    def open_names(self) -> set[str]:
        return {name for (_, name), entry in self._entries.items() if entry.opened is not None}


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_reader, "open_frame_source", open_source)


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_one_client_does_not_hold_all_open_files() -> None:
    async def scenario() -> None:
        reader, end = Reader(), threading.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(MAX_OPEN_FILES + 2):
                tasks.create_task(reader.look("busy", f"busy {number}", end))
            await wait_until(lambda: len(reader.open_names()) == MAX_OPEN_FILES // 2)
            assert await reader.look("calm", "calm") == 3
            assert await reader.look("third", "third") == 3
            assert len([name for name in reader.open_names() if name.startswith("busy")]) == 2
            end.set()
        await reader.close()

    asyncio.run(scenario())


def test_an_idle_file_makes_room_for_another_of_its_client() -> None:
    async def scenario() -> None:
        reader = Reader()
        for name in ("calm", "a", "b", "c"):
            await reader.look("calm" if name == "calm" else "busy", name)
        await wait_until(lambda: reader.open_names() == {"calm", "b", "c"})
        await reader.close()

    asyncio.run(scenario())


def test_files_that_are_read_all_the_time_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four files are never without a reader, and a fifth client has its turn all the same."""
    monkeypatch.setattr(frame_reader, "MAX_TURN_S", 0.05)

    async def scenario() -> None:
        reader, is_over = Reader(), asyncio.Event()

        async def read_on(client: str, name: str) -> None:
            while not is_over.is_set():
                await reader.look(client, name)

        async with asyncio.TaskGroup() as tasks:
            for number in range(MAX_OPEN_FILES):
                for _ in range(3):  # so that one begins before another ends
                    tasks.create_task(read_on(f"client {number % 2}", f"file {number}"))
            await wait_until(lambda: len(reader.open_names()) == MAX_OPEN_FILES)
            async with asyncio.timeout(60):
                assert await reader.look("calm", "calm") == 3
            is_over.set()
        await reader.close()
        assert reader._places.has_free

    asyncio.run(scenario())


def test_a_frame_and_what_is_made_of_it_count_as_memory() -> None:
    async def scenario() -> None:
        reader, end = Reader(), threading.Event()
        looking = asyncio.create_task(reader.look("a", "file", end))
        await wait_until(lambda: reader.memory.held_bytes > 0)
        assert reader.memory.held_bytes == SIZE.height * SIZE.width * 3 + EXTRA_BYTES
        end.set()
        await looking
        assert reader.memory.held_bytes == 0
        await reader.close()

    asyncio.run(scenario())
