"""A large image is stored completely or not at all."""

import asyncio
import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from segserve.errors import BadInput, ImageNotFound, SegserveError, TooLarge, Unavailable
from segserve.images import tile_pyramid
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.private_redis import PrivateRedis
from segserve.types import DEFAULT_TENANT, ReadOptions
from tests.images.folder_library import FolderLibrary, run_scenario
from tests.images.sample_images import READ_IN_BANDS, RGB, H, W, save_image, write_tiff
from tests.quotas import close_quota, open_quota


@pytest.mark.usefixtures("small_tiles")
def test_concurrent_uploads_of_one_image_cut_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    write = tile_pyramid.write_pyramid
    monkeypatch.setattr(tile_pyramid, "write_pyramid", lambda *args: runs.append(1) or write(*args))

    async def scenario(library: FolderLibrary) -> None:
        files = [io.BytesIO(READ_IN_BANDS[name]) for name in ("png colour", "tiff tiles") for _ in range(4)]
        records = await asyncio.gather(
            *(library.images.add(DEFAULT_TENANT, file, ReadOptions()) for file in files)
        )
        assert len({record.image_id for record in records}) == 2
        assert len({record.tiles.folder for record in records if record.tiles}) == 2

    run_scenario(tmp_path, scenario)
    assert len(runs) == 2


@pytest.mark.usefixtures("small_tiles")
def test_two_replicas_at_once_leave_one_complete_set_of_tiles(tmp_path: Path) -> None:
    data = READ_IN_BANDS["png colour"]

    async def scenario(library: FolderLibrary) -> None:
        other = FolderLibrary(tmp_path)
        a, b = await asyncio.gather(
            library.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions()),
            other.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions()),
        )
        assert a.image_id == b.image_id
        record = await library.images.get_record(DEFAULT_TENANT, a.image_id)
        np.testing.assert_array_equal(await other.reader.read(DEFAULT_TENANT, record), RGB)

    run_scenario(tmp_path, scenario)


def png_bomb(side: int) -> bytes:
    """Return a PNG whose header says `side` x `side` pixels, with data for a thousand."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


REFUSED: dict[str, tuple[bytes, type[SegserveError]]] = {
    "png of too many pixels": (png_bomb(30_000), TooLarge),
    "png of fewer pixels than its header says": (png_bomb(900), BadInput),
    "jpeg of too many pixels": (save_image(Image.new("L", (4000, 4000)), "JPEG"), TooLarge),
    "tiff of too many pixels": (write_tiff(np.zeros((2000, 2000), np.uint8), compression="zlib"), TooLarge),
    "webp of more pixels than are read at once": (save_image(Image.new("L", (400, 400)), "WEBP"), TooLarge),
    "nothing but NaN": (write_tiff(np.full((H, W), np.nan, np.float32)), BadInput),
    **{
        f"{name}, cut at {share}": (data[: int(len(data) * share)], BadInput)
        for name in ("png colour", "jpeg colour", "tiff tiles", "tiff one strip")
        for data in [READ_IN_BANDS[name]]
        for share in (0.4, 0.9)
    },
}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", REFUSED)
def test_an_unreadable_image_leaves_nothing_in_the_store(name: str, tmp_path: Path) -> None:
    data, error = REFUSED[name]

    async def scenario(library: FolderLibrary) -> None:
        with pytest.raises(error) as refusal:
            await library.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
        assert cast(SegserveError, refusal.value).field == "file"

    assert run_scenario(tmp_path, scenario).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_a_store_that_fails_midway_is_left_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, count = ImageStore.write_tile, 0

    def failing(*args: Any) -> None:
        nonlocal count
        count += 1
        if count > 7:
            raise Unavailable("The image could not be stored.")
        write(*args)

    monkeypatch.setattr(ImageStore, "write_tile", failing)

    async def scenario(library: FolderLibrary) -> None:
        with pytest.raises(Unavailable):
            await library.images.add(DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions())

    assert run_scenario(tmp_path, scenario).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_a_client_that_disconnects_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, write = asyncio.Event(), ImageStore.write_tile

    async def scenario(library: FolderLibrary) -> None:
        loop = asyncio.get_running_loop()

        def signalling(*args: Any) -> None:
            write(*args)
            loop.call_soon_threadsafe(started.set)

        monkeypatch.setattr(ImageStore, "write_tile", signalling)
        adding = asyncio.create_task(
            library.images.add(DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions())
        )
        await started.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding

    assert run_scenario(tmp_path, scenario).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_tiles_count_for_the_quota(tmp_path: Path) -> None:
    data = READ_IN_BANDS["png colour"]

    async def scenario(library: FolderLibrary) -> None:
        with pytest.raises(TooLarge, match="quota"):
            await library.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
        await close_quota(quota)

    redis = PrivateRedis(tmp_path / "redis", 16)
    redis.start()
    folder = tmp_path / "objects"
    folder.mkdir()
    quota = open_quota(open_store(None, folder), redis.url, max_bytes=len(data) + 1000)
    assert run_scenario(folder, scenario, quota=quota).files() == []
    redis.stop()


@pytest.mark.usefixtures("small_tiles")
def test_a_deletion_during_an_upload_leaves_no_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ImageStore.put

    async def deleted_before(store: ImageStore, tenant: str, record: Any, file: Any) -> Any:
        with suppress(ImageNotFound):
            await store.delete(tenant, record.image_id)
        return await put(store, tenant, record, file)

    async def scenario(library: FolderLibrary) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(ImageStore, "put", deleted_before)
            with pytest.raises(Unavailable, match="deleted while"):
                await library.images.add(
                    DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
                )
        assert library.files() == []
        added = await library.images.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        assert (await library.images.read_pixels(DEFAULT_TENANT, added.image_id)).size

    run_scenario(tmp_path, scenario)
