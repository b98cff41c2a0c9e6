"""EXIF orientation is applied as Pillow applies it, to whole images and to regions."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from segserve.images.orientation import apply_orientation, oriented_size, to_stored_region
from segserve.types import Region, Size

IMAGE = np.random.default_rng(0).integers(0, 256, (11, 17, 3), np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_applies_it(orientation: int) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(IMAGE).save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    np.testing.assert_array_equal(apply_orientation(IMAGE, orientation), expected)
    assert oriented_size(Size(11, 17), orientation) == Size(*expected.shape[:2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_of_the_oriented_image_is_read_where_it_is_stored(orientation: int) -> None:
    oriented = apply_orientation(IMAGE, orientation)
    size = oriented_size(Size(11, 17), orientation)
    for region in (Region(0, 0, size.width, size.height), Region(1, 2, 5, 3), Region(4, 6, 2, 5)):
        stored = to_stored_region(region, size, orientation)
        part = apply_orientation(
            IMAGE[stored.y : stored.y + stored.height, stored.x : stored.x + stored.width], orientation
        )
        expected = oriented[region.y : region.y + region.height, region.x : region.x + region.width]
        np.testing.assert_array_equal(part, expected)
