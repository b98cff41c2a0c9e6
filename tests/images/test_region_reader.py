"""Any region of a large image has the pixels that the image has when it is read at once."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segserve.errors import BadInput, ImageNotFound
from segserve.images.normalise import PERCENTILES
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import read_image
from segserve.types import DEFAULT_TENANT, Normalise, ReadOptions, Region, Size, Stain
from tests.images.folder_library import FolderLibrary, run_scenario
from tests.images.sample_images import READ_AT_ONCE, READ_IN_BANDS, RGB, H, W, save_image

OPTIONS = {
    "as it is": ReadOptions(),
    "inverted": ReadOptions(invert=True),
    "percentile": ReadOptions(normalise=Normalise.PERCENTILE),
    "minmax": ReadOptions(normalise=Normalise.MINMAX),
}
CHANNEL_OPTIONS = {
    "png 4-bit palette": [ReadOptions(channels=(2, 0))],
    "png colour and alpha": [ReadOptions(channels=(3,)), ReadOptions(channels=(2, 1, 0))],
    "png colour": [ReadOptions(stain=Stain.HAEMATOXYLIN), ReadOptions(stain=Stain.DAB, invert=True)],
    "tiff of imagej, channels apart": [ReadOptions(channels=(3, 1), normalise=Normalise.PERCENTILE)],
}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("name", [*READ_IN_BANDS, *READ_AT_ONCE])
def test_a_large_image_has_the_pixels_of_one_read_at_once(name: str, tmp_path: Path) -> None:
    data = {**READ_IN_BANDS, **READ_AT_ONCE}[name]

    async def scenario(library: FolderLibrary) -> None:
        for options in [*OPTIONS.values(), *CHANNEL_OPTIONS.get(name, [])]:
            expected = read_image(data, options, 10**6)
            record = await library.images.add(DEFAULT_TENANT, io.BytesIO(data), options)
            assert record.tiles is not None
            assert record.size == Size(*expected.shape[:2])
            assert await library.images.get_record(DEFAULT_TENANT, record.image_id) == record
            # Interpolated percentiles of floats may differ in their last bit.
            tolerance = int("float" in name and options.normalise in PERCENTILES)
            height, width = expected.shape[:2]
            for region in (None, Region(3, 60, 70, 9), Region(width - 30, height - 70, 30, 70)):
                pixels = await library.reader.read(DEFAULT_TENANT, record, region)
                x, y, w, h = (
                    (0, 0, width, height)
                    if region is None
                    else (*(region.x, region.y), *(region.width, region.height))
                )
                difference = pixels.astype(int) - expected[y : y + h, x : x + w]
                assert np.abs(difference).max() <= tolerance, (options, region)

    run_scenario(tmp_path, scenario)


@pytest.mark.usefixtures("small_tiles")
def test_a_reduced_region_shows_what_the_region_shows(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        record = await library.images.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        even = Region(0, 0, 88, H)
        quarter = await library.reader.read(DEFAULT_TENANT, record, even, min_side=100)
        expected = Image.fromarray(RGB[:, :88]).resize((22, H // 4), Image.Resampling.BOX)
        assert quarter.shape == (H // 4, 22, 3), "an eighth would be less than 100 pixels high"
        assert np.abs(np.asarray(expected).astype(int) - quarter).max() <= 1, "rounded twice"
        sharp = await library.reader.read(DEFAULT_TENANT, record, Region(8, 16, 64, 64), min_side=33)
        np.testing.assert_array_equal(sharp, RGB[16:80, 8:72])

        turned = await library.images.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["tiff turned"]), ReadOptions()
        )
        oriented = await library.reader.read(DEFAULT_TENANT, turned, min_side=100)
        stored = await library.reader.read(DEFAULT_TENANT, record, min_side=100)
        np.testing.assert_array_equal(oriented, apply_orientation(stored, 6))

    run_scenario(tmp_path, scenario)


def test_a_region_that_is_not_on_the_image_is_refused(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        for data in (save_image(Image.fromarray(RGB[:90]), "PNG"), READ_IN_BANDS["png colour"]):
            record = await library.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
            for region in (Region(-1, 0, 5, 5), Region(0, 0, W + 1, 5), Region(0, 0, 0, 0)):
                with pytest.raises(BadInput) as refusal:
                    await library.reader.read(DEFAULT_TENANT, record, region)
                assert refusal.value.field == "region"

    run_scenario(tmp_path, scenario)


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_deleted_with_the_image(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        record = await library.images.add(
            DEFAULT_TENANT, io.BytesIO(READ_IN_BANDS["png colour"]), ReadOptions()
        )
        assert len(library.files()) > 2 * 11
        used = sum((tmp_path / name).stat().st_size for name in library.files())
        assert record.stored_bytes == used - (tmp_path / library.files()[1]).stat().st_size, (
            "all but the record"
        )
        await library.images.delete(DEFAULT_TENANT, record.image_id)
        assert library.files() == []
        with pytest.raises(ImageNotFound):
            await library.reader.read(DEFAULT_TENANT, record)

    run_scenario(tmp_path, scenario)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("side", [200, 300], ids=["one file", "tiles"])
def test_what_is_made_of_an_image_counts_as_memory_until_it_is_made(tmp_path: Path, side: int) -> None:
    image = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    data = save_image(Image.fromarray(image), "PNG")

    async def scenario(library: FolderLibrary) -> None:
        record = await library.images.add(DEFAULT_TENANT, io.BytesIO(data), ReadOptions())
        assert (record.tiles is not None) == (side > 256)

        def convert(pixels: np.ndarray) -> int:
            np.testing.assert_array_equal(pixels, image)
            return library.memory.held_bytes

        extra_bytes = 100_000_000
        held = await library.images.convert_pixels(
            DEFAULT_TENANT, record.image_id, convert, lambda size: extra_bytes * size.width // side
        )
        assert held >= image.nbytes + extra_bytes
        assert library.memory.held_bytes == 0

    run_scenario(tmp_path, scenario)
