"""Any part of a large image has the pixels that the image has when it is read at once."""

import asyncio
import io
import struct
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from segserve.errors import BadInput, ImageNotFound, SegserveError, TooLarge, Unavailable
from segserve.images import tile_pyramid
from segserve.images.image_library import ImageLibrary
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import read_image
from segserve.images.region_reader import RegionReader
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.types import DEFAULT_TENANT, ImageLimits, Normalise, ReadOptions, Region, Size
from tests.images.test_bands import READ_AT_ONCE, READ_IN_BANDS, RGB, H, W, pil, tiff

LIMITS = ImageLimits(pixels=100_000, tiled_pixels=1_000_000, tile_from=256)


class Shelf:
    """A library over a folder, in which what is longer than 256 pixels is large."""

    def __init__(self, folder: Path, limits: ImageLimits = LIMITS, quota: int = 0) -> None:
        self.folder, workers = folder, ThreadPoolExecutor(2)
        self.store = ImageStore(open_store(None, folder), quota)
        self.stored = RegionReader(self.store, workers, limits.pixels)

        async def forget(*args: object) -> None: ...

        cache, registry = SimpleNamespace(forget=forget), SimpleNamespace(bundles=dict)
        self.library = ImageLibrary(
            self.store,
            self.stored,
            cast(Any, cache),
            cast(Any, registry),
            workers,
            limits=limits,
            forget=lambda *args: None,
        )

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def story(folder: Path, tell: Callable[[Shelf], Awaitable[None]], **options: Any) -> Shelf:
    async def run() -> Shelf:
        shelf = Shelf(folder, **options)
        await tell(shelf)
        return shelf

    return asyncio.run(run())


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_pyramid, "TILE_SIDE_PX", 64)


OPTIONS = {
    "as it is": ReadOptions(),
    "percentile": ReadOptions(normalise=Normalise.PERCENTILE),
    "minmax": ReadOptions(normalise=Normalise.MINMAX),
}
CHOSEN = {
    "png 4-bit palette": [ReadOptions(channels=(2, 0))],
    "png colour and alpha": [ReadOptions(channels=(3,)), ReadOptions(channels=(2, 1, 0))],
    "tiff of imagej, channels apart": [ReadOptions(channels=(3, 1), normalise=Normalise.PERCENTILE)],
}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", [*READ_IN_BANDS, *READ_AT_ONCE])
def test_a_large_image_has_the_pixels_of_one_read_at_once(name: str, tmp_path: Path) -> None:
    data = {**READ_IN_BANDS, **READ_AT_ONCE}[name]

    async def tell(shelf: Shelf) -> None:
        for options in [*OPTIONS.values(), *CHOSEN.get(name, [])]:
            expected = read_image(data, options, 10**6)
            record = await shelf.library.add(DEFAULT_TENANT, io.BytesIO(data), options)
            assert record.tiles is not None
            assert record.size == Size(*expected.shape[:2])
            assert await shelf.library.record(DEFAULT_TENANT, record.image_id) == record
            # Interpolated percentiles of floats may differ in their last bit.
            within = int("float" in name and options.normalise is Normalise.PERCENTILE)
            height, width = expected.shape[:2]
            for region in (None, Region(3, 60, 70, 9), Region(width - 30, height - 70, 30, 70)):
                found = await shelf.stored.read(DEFAULT_TENANT, record, region)
                x, y, w, h = (
                    (0, 0, width, height)
                    if region is None
                    else (*(region.x, region.y), *(region.width, region.height))
                )
                difference = found.astype(int) - expected[y : y + h, x : x + w]
                assert np.abs(difference).max() <= within, (options, region)

    story(tmp_path, tell)


@pytest.mark.usefixtures("small_tiles")
def test_a_reduced_part_shows_what_the_part_shows(tmp_path: Path) -> None:
    async def tell(shelf: Shelf) -> None:
        record = await shelf.library.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        even = Region(0, 0, 88, H)
        quarter = await shelf.stored.read(DEFAULT_TENANT, record, even, min_side=100)
        expected = Image.fromarray(RGB[:, :88]).resize((22, H // 4), Image.Resampling.BOX)
        assert quarter.shape == (H // 4, 22, 3), "an eighth would be less than 100 pixels high"
        assert np.abs(np.asarray(expected).astype(int) - quarter).max() <= 1, "rounded twice"
        sharp = await shelf.stored.read(DEFAULT_TENANT, record, Region(8, 16, 64, 64), min_side=33)
        np.testing.assert_array_equal(sharp, RGB[16:80, 8:72])

        turned = await shelf.library.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["tiff turned"]), ReadOptions()
        )
        found = await shelf.stored.read(DEFAULT_TENANT, turned, min_side=100)
        whole = await shelf.stored.read(DEFAULT_TENANT, record, min_side=100)
        np.testing.assert_array_equal(found, apply_orientation(whole, 6))

    story(tmp_path, tell)


def test_a_region_that_is_not_on_the_image_is_refused(tmp_path: Path) -> None:
    async def tell(shelf: Shelf) -> None:
        for data in (pil(Image.fromarray(RGB[:90]), "PNG"), READ_IN_BANDS["png colour"]):
            record = await shelf.library.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
            for region in (Region(-1, 0, 5, 5), Region(0, 0, W + 1, 5), Region(0, 0, 0, 0)):
                with pytest.raises(BadInput) as refusal:
                    await shelf.stored.read(DEFAULT_TENANT, record, region)
                assert refusal.value.field == "region"

    story(tmp_path, tell)


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_deleted_with_the_image(tmp_path: Path) -> None:
    async def tell(shelf: Shelf) -> None:
        record = await shelf.library.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        assert len(shelf.files()) > 2 * 11
        used = await shelf.store.quota.count_used_bytes(DEFAULT_TENANT)
        assert record.stored_bytes == used - (tmp_path / shelf.files()[1]).stat().st_size, (
            "all but the record"
        )
        await shelf.library.delete(DEFAULT_TENANT, record.image_id)
        assert shelf.files() == []
        with pytest.raises(ImageNotFound):
            await shelf.stored.read(DEFAULT_TENANT, record)

    story(tmp_path, tell)


@pytest.mark.usefixtures("small_tiles")
def test_the_same_image_at_once_is_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    write = tile_pyramid.write_pyramid
    monkeypatch.setattr(tile_pyramid, "write_pyramid", lambda *args: runs.append(1) or write(*args))

    async def tell(shelf: Shelf) -> None:
        files = [io.BytesIO(READ_IN_BANDS[name]) for name in ("png colour", "tiff tiles") for _ in range(4)]
        records = await asyncio.gather(
            *(shelf.library.add(DEFAULT_TENANT, file, ReadOptions()) for file in files)
        )
        assert len({record.image_id for record in records}) == 2
        assert len({record.tiles.folder for record in records if record.tiles}) == 2

    story(tmp_path, tell)
    assert len(runs) == 2


@pytest.mark.usefixtures("small_tiles")
def test_two_replicas_at_once_leave_one_set_that_is_whole(tmp_path: Path) -> None:
    data = READ_IN_BANDS["png colour"]

    async def tell(shelf: Shelf) -> None:
        other = Shelf(tmp_path)
        a, b = await asyncio.gather(
            shelf.library.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions()),
            other.library.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions()),
        )
        assert a.image_id == b.image_id
        record = await shelf.library.record(DEFAULT_TENANT, a.image_id)
        np.testing.assert_array_equal(await other.stored.read(DEFAULT_TENANT, record), RGB)

    story(tmp_path, tell)


def bomb(edge: int) -> bytes:
    """A PNG that says it has so many pixels a side, and has a thousand of them."""
    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


REFUSED: dict[str, tuple[bytes, type[SegserveError]]] = {
    "png of too many pixels": (bomb(30_000), TooLarge),
    "png of fewer pixels than it says": (bomb(900), BadInput),
    "jpeg of too many pixels": (pil(Image.new("L", (4000, 4000)), "JPEG"), TooLarge),
    "tiff of too many pixels": (tiff(np.zeros((2000, 2000), np.uint8), compression="zlib"), TooLarge),
    "webp of more pixels than are read at once": (pil(Image.new("L", (400, 400)), "WEBP"), TooLarge),
    "nothing but NaN": (tiff(np.full((H, W), np.nan, np.float32)), BadInput),
    **{
        f"{name}, cut at {share}": (data[: int(len(data) * share)], BadInput)
        for name in ("png colour", "jpeg colour", "tiff tiles", "tiff one strip")
        for data in [READ_IN_BANDS[name]]
        for share in (0.4, 0.9)
    },
}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_leaves_nothing_in_the_store(name: str, tmp_path: Path) -> None:
    data, error = REFUSED[name]

    async def tell(shelf: Shelf) -> None:
        with pytest.raises(error) as refusal:
            await shelf.library.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
        assert cast(SegserveError, refusal.value).field == "file"

    assert story(tmp_path, tell).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_a_store_that_fails_midway_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, count = ImageStore.write_tile, 0

    def failing(*args: Any) -> None:
        nonlocal count
        count += 1
        if count > 7:
            raise Unavailable("The image could not be stored.")
        write(*args)

    monkeypatch.setattr(ImageStore, "write_tile", failing)

    async def tell(shelf: Shelf) -> None:
        with pytest.raises(Unavailable):
            await shelf.library.add(DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions())

    assert story(tmp_path, tell).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_a_client_that_hangs_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, write = asyncio.Event(), ImageStore.write_tile

    async def tell(shelf: Shelf) -> None:
        loop = asyncio.get_running_loop()

        def telling(*args: Any) -> None:
            write(*args)
            loop.call_soon_threadsafe(begun.set)

        monkeypatch.setattr(ImageStore, "write_tile", telling)
        adding = asyncio.create_task(
            shelf.library.add(DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions())
        )
        await begun.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding

    assert story(tmp_path, tell).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_tiles_count_for_the_quota(tmp_path: Path) -> None:
    data = READ_IN_BANDS["png colour"]

    async def tell(shelf: Shelf) -> None:
        with pytest.raises(TooLarge, match="quota"):
            await shelf.library.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())

    assert story(tmp_path, tell, quota=len(data) + 1000).files() == []


@pytest.mark.usefixtures("small_tiles")
def test_a_deletion_amid_an_upload_leaves_no_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ImageStore.put

    async def deleted_before(store: ImageStore, tenant: str, record: Any, file: Any) -> Any:
        with suppress(ImageNotFound):
            await store.delete(tenant, record.image_id)
        return await put(store, tenant, record, file)

    async def tell(shelf: Shelf) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(ImageStore, "put", deleted_before)
            with pytest.raises(Unavailable, match="deleted while"):
                await shelf.library.add(
                    DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
                )
        assert shelf.files() == []
        added = await shelf.library.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        assert (await shelf.library.read_pixels(DEFAULT_TENANT, added.image_id)).size

    story(tmp_path, tell)
