"""What the object store keeps of an image, and what it does not."""

import asyncio
import io
from datetime import timedelta
from pathlib import Path

import pytest

from segserve.errors import ImageNotFound
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.types import ImageRecord, ReadOptions, Size
from tests.quotas import NO_QUOTA

ID = "0" * 64
RECORD = ImageRecord(ID, Size(4, 5), ReadOptions(), 3, 0.0)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_an_image_is_stored_and_deleted_whole(tmp_path: Path) -> None:
    store = ImageStore(open_store(None, tmp_path), NO_QUOTA)

    async def run() -> None:
        assert await store.put("t", RECORD, io.BytesIO(b"abc")) == RECORD
        assert await store.read("t", ID) == b"abc"
        assert files(tmp_path) == ["bytes", "record.json"]
        await store.delete("t", ID)
        assert files(tmp_path) == []
        with pytest.raises(ImageNotFound):
            await store.delete("t", ID)

    asyncio.run(run())


def test_bytes_that_an_interrupted_deletion_left_go_with_the_next(tmp_path: Path) -> None:
    store = ImageStore(open_store(None, tmp_path), NO_QUOTA)

    async def run() -> None:
        await store.put("t", RECORD, io.BytesIO(b"abc"))
        next(tmp_path.rglob("record.json")).unlink()
        assert await store.list_older_than("t", timedelta(hours=1)) == []
        assert await store.list_older_than("t", timedelta(0)) == [ID]
        with pytest.raises(ImageNotFound):
            await store.delete("t", ID)
        assert files(tmp_path) == []

    asyncio.run(run())
