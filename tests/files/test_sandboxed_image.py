"""Pictures whose codec cannot be bounded by checks are decoded in a sandboxed process, and stored as pixels."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import BadInput, TooLarge, Unavailable
from segserve.files.file_readers import START_MEMORY_BYTES, FileReaders
from segserve.files.sandboxed_image import open_in_process
from segserve.images.memory_estimate import FIXED_BYTES
from segserve.images.read_image import read_image
from segserve.types import Normalise, ReadOptions, Size, UInt8
from tests.files.test_file_readers import Liar, executor, liar, liars, readers  # noqa: F401  (fixtures)
from tests.images.folder_library import FolderLibrary, run_scenario
from tests.images.sandboxed.picture_files import DEEP, RGB, H, W, save, write_16_bit_pnm, write_heic

HEADER = {
    "size": {"height": 4, "width": 5},
    "orientation": 1,
    "memory": {"channels": 3, "dtype": "uint8", "read_bytes": 60, "band_rows": 2, "band_bytes": 30},
    "has_bands": False,
    "no_data": None,
    "pages": 1,
}
PIXELS = {"shape": [4, 5, 3], "dtype": "uint8", "has_alpha": False}


async def add_and_read(library: FolderLibrary, data: bytes, options: ReadOptions | None = None) -> UInt8:
    record = await library.images.add("t", io.BytesIO(data), options or ReadOptions())
    return await library.images.read_pixels("t", record.image_id)


def test_an_image_is_stored_as_pixels_that_every_process_reads(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        data = write_heic(RGB)
        record = await library.images.add("t", io.BytesIO(data), ReadOptions())
        assert record.size == Size(H, W)
        assert record.tiles is None
        stored = await library.store.read("t", record.image_id)
        assert np.array_equal(read_image(stored, record.options, H * W), RGB)
        library.sandbox.close()  # as in an encoder worker, which has none
        assert np.array_equal(await library.images.read_pixels("t", record.image_id), RGB)
        again = await library.images.add("t", io.BytesIO(data), ReadOptions())
        assert again == record

    run_scenario(tmp_path, scenario)


def test_read_options_apply_once(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        png = save(DEEP, "PNG")
        for options in (
            ReadOptions(),
            ReadOptions(normalise=Normalise.PERCENTILE),
            ReadOptions(channels=(0,), normalise=Normalise.MINMAX),
        ):
            expected = await add_and_read(library, png, options)
            assert np.array_equal(await add_and_read(library, write_16_bit_pnm(DEEP), options), expected)
        frames = [Image.fromarray(np.full((9, 9, 3), 40 * n, np.uint8)) for n in range(3)]
        gif = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert (await add_and_read(library, gif, ReadOptions(page=2))).mean() == 80

    run_scenario(tmp_path, scenario)


def test_a_large_image_is_cut_into_tiles(tmp_path: Path) -> None:
    values = np.asarray(Image.fromarray(RGB).resize((300, 260)))

    async def scenario(library: FolderLibrary) -> None:
        record = await library.images.add("t", io.BytesIO(save(values, "PPM")), ReadOptions())
        assert record.tiles is not None
        assert np.array_equal(await library.images.read_pixels("t", record.image_id), values)

    run_scenario(tmp_path, scenario)


def test_memory_is_counted_before_decoding(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        large = write_16_bit_pnm(np.zeros((200, 200, 3), np.uint16))
        held = list[int]()
        acquire = library.memory.acquire

        def watch(needed_bytes: int, field: str = "file") -> Any:
            held.append(needed_bytes)
            return acquire(needed_bytes, field)

        library.memory.acquire = watch  # type: ignore[method-assign]
        await add_and_read(library, large)
        start, decoding = held[:2]
        assert start == START_MEMORY_BYTES
        assert 2 * FIXED_BYTES + 200 * 200 * 6 * 8 < decoding < 2 * FIXED_BYTES + 200 * 200 * 6 * 20
        assert library.memory.held_bytes == 0

    run_scenario(tmp_path, scenario)


def test_what_needs_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        with pytest.raises(TooLarge, match="of memory"):
            await library.images.add("t", io.BytesIO(save(RGB, "PPM")), ReadOptions())
        assert library.files() == []

    run_scenario(tmp_path, scenario, memory=1 << 20)


def test_a_client_that_leaves_ends_the_process(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        adding = asyncio.create_task(library.images.add("t", io.BytesIO(save(RGB, "PPM")), ReadOptions()))
        await asyncio.sleep(0.01)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert np.array_equal(await add_and_read(library, save(RGB, "PPM")), RGB)
        assert library.memory.held_bytes == 0

    run_scenario(tmp_path, scenario)


@pytest.mark.parametrize("compression", ["jpeg2000", "webp", "jpegxl"])
def test_a_tile_that_claims_to_be_huge_is_refused(
    readers: FileReaders,  # noqa: F811
    tmp_path: Path,
    compression: str,
) -> None:
    """The header of the TIFF is small; that of its tile is a bomb, which the limits of the process stop."""
    path = tmp_path / "bomb.tif"
    options: dict[str, Any] = {"compression": compression, "compressionargs": {"lossless": True}}
    if compression == "jpeg2000":
        options["compressionargs"] = {"level": 0, "codecformat": "j2k"}
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(48, 48), **options)
    data = bytearray(path.read_bytes())
    match compression:
        case "jpeg2000":
            at = data.index(b"\xff\x4f\xff\x51") + 8
            data[at : at + 8] = (60_000).to_bytes(4, "big") * 2
        case "webp":
            at = data.index(b"VP8L") + 9
            data[at : at + 4] = (0x0FFFFFFF).to_bytes(4, "little")
        case "jpegxl":
            at = data.index(b"\xff\x0a") + 2
            data[at : at + 8] = (3 << 1 | 49_999 << 3 | 1 << 33).to_bytes(8, "little")
    path.write_bytes(data)
    image = open_in_process(readers, path, 0, 10**6, 10**6)
    with pytest.raises(BadInput):
        image.source.read()
    image.close()


class TestWhatAProcessAnswers:
    """A process that its file has taken over can answer anything."""

    def open(self, liar: Liar, **replies: object) -> None:  # noqa: F811
        liar.tell(
            **{
                "open_image": {"result": HEADER},
                "read_image": {"result": PIXELS},
                "write_pixels": {"result": {}},
                **replies,
            }
        )
        image = open_in_process(liar.readers, liar.path, 0, 1000, 1000)
        try:
            image.source.read()
        finally:
            image.close()

    @pytest.mark.parametrize(
        "lie",
        [
            {"size": {"height": 4000, "width": 5}},
            {"size": {"height": -1, "width": 5}},
            {"orientation": 9},
            {"memory": {**HEADER["memory"], "dtype": "object"}},  # type: ignore[dict-item]
            {"memory": {**HEADER["memory"], "channels": 1 << 40}},  # type: ignore[dict-item]
        ],
    )
    def test_headers(self, liar: Liar, lie: dict[str, object]) -> None:  # noqa: F811
        with pytest.raises(BadInput):
            self.open(liar, open_image={"result": {**HEADER, **lie}})

    @pytest.mark.parametrize(
        "lie",
        [
            {"shape": [5, 5, 3]},
            {"shape": [4, 5, 4]},
            {"dtype": "float64"},
            {"shape": None},
            {"shape": [4, 1 << 39, 3]},
        ],
    )
    def test_pixels(self, liar: Liar, lie: dict[str, object]) -> None:  # noqa: F811
        with pytest.raises(BadInput):
            self.open(liar, read_image={"result": {**PIXELS, **lie}})

    def test_a_truthful_process_is_believed_and_crashes_are_refusals(self, liar: Liar) -> None:  # noqa: F811
        self.open(liar)
        for operation in ("open_image", "read_image"):
            with pytest.raises(BadInput, match="stops its reader"):
                self.open(liar, **{operation: "crash"})

    def test_readers_that_are_killed(self, liar: Liar) -> None:  # noqa: F811
        liar.tell(open_image={"result": HEADER}, read_image="hang")
        group = liar.readers.group()
        image = open_in_process(group, liar.path, 0, 1000, 1000)
        group.kill()
        with pytest.raises(Unavailable):
            image.source.read()
        image.close()
