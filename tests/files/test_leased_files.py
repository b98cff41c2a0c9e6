"""Files of a process that was killed are deleted by another one, and no others."""

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from segserve.errors import FileNotFound, StorageFull
from segserve.files.leased_files import LEASE, LeasedFiles
from segserve.store import object_paths
from segserve.store.file_store import FileStore
from segserve.store.object_store import open_store
from segserve.types import DEFAULT_TENANT, FileKind, FileRecord, Size
from tests.quotas import NO_QUOTA

IDS = {name: name * 64 for name in "abc"}


class Library:
    """In place of `FileLibrary`: the id of a file is its content, and nothing is probed."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def add(
        self, tenant: str, file: BinaryIO, *, before_storing: Callable[[str], Awaitable[None]]
    ) -> FileRecord:
        content = file.read()
        file_id = content.decode()
        await before_storing(file_id)
        if file_id == IDS["c"]:
            raise StorageFull
        record = FileRecord(file_id, FileKind.FRAMES, "zip", 2, Size(2, 2), len(content), time.time())
        await self._store.put(tenant, record, io.BytesIO(content))
        return record

    async def delete(self, tenant: str, file_id: str) -> None:
        await self._store.delete(tenant, file_id)


def open_files(folder: Path) -> tuple[LeasedFiles, FileStore]:
    """Return what a process has."""
    objects = open_store(None, folder)
    store = FileStore(objects, NO_QUOTA)
    return LeasedFiles(cast(Any, Library(store)), store), store


def lease_path(folder: Path, name: str) -> Path:
    return folder / object_paths.lease(DEFAULT_TENANT, IDS[name])


def make_old(path: Path) -> None:
    at = time.time() - LEASE.total_seconds() - 60
    os.utime(path, (at, at))


async def look_once(files: LeasedFiles) -> None:
    keeping = asyncio.create_task(files.keep())
    await asyncio.sleep(0.5)
    keeping.cancel()
    await asyncio.wait([keeping])


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        killed, store = open_files(tmp_path)
        await killed.add(DEFAULT_TENANT, io.BytesIO(IDS["a"].encode()))
        await killed.add(DEFAULT_TENANT, io.BytesIO(IDS["b"].encode()))
        await killed.add("lab-b", io.BytesIO(IDS["a"].encode()))
        make_old(lease_path(tmp_path, "a"))
        make_old(tmp_path / object_paths.lease("lab-b", IDS["a"]))
        other, _ = open_files(tmp_path)
        await look_once(other)
        for tenant in (DEFAULT_TENANT, "lab-b"):
            with pytest.raises(FileNotFound):
                await store.get_record(tenant, IDS["a"])
        assert not lease_path(tmp_path, "a").exists()
        await store.get_record(DEFAULT_TENANT, IDS["b"])  # its lease has not ended

    asyncio.run(scenario())


def test_a_process_that_lives_keeps_its_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        living, store = open_files(tmp_path)
        await living.add(DEFAULT_TENANT, io.BytesIO(IDS["a"].encode()))
        make_old(lease_path(tmp_path, "a"))
        await look_once(living)
        assert time.time() - lease_path(tmp_path, "a").stat().st_mtime < LEASE.total_seconds(), "renewed"
        await store.get_record(DEFAULT_TENANT, IDS["a"])
        await living.close()
        with pytest.raises(FileNotFound):
            await store.get_record(DEFAULT_TENANT, IDS["a"])
        assert not lease_path(tmp_path, "a").exists()

    asyncio.run(scenario())


def test_what_could_not_be_stored_has_no_lease(tmp_path: Path) -> None:
    async def scenario() -> None:
        files, _ = open_files(tmp_path)
        with pytest.raises(StorageFull):
            await files.add(DEFAULT_TENANT, io.BytesIO(IDS["c"].encode()))
        assert not lease_path(tmp_path, "c").exists()
        await files.delete(DEFAULT_TENANT, IDS["c"])  # nothing is there

    asyncio.run(scenario())
