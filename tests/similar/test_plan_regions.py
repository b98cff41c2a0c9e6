"""The regions of an image that are searched, and their scale."""

from dataclasses import replace

import numpy as np
import pytest

from segserve.encode.embeddings import ImageExtent
from segserve.errors import TooManyTiles
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.registry import BUILT_IN_MODELS
from segserve.similar.plan_regions import MIN_OBJECT_CELLS, choose_region, plan_regions
from segserve.types import Crop, Size


@pytest.fixture(scope="module")
def manifest() -> PromptableManifest:
    """Of the starter: an input of 512 pixels, 32 cells."""
    loaded = Bundle(BUILT_IN_MODELS / "starter").manifest
    assert isinstance(loaded, PromptableManifest)
    return loaded


def test_an_image_with_objects_of_some_cells_is_searched_in_one_piece(manifest: PromptableManifest) -> None:
    [part] = plan_regions(ImageExtent(Size(500, 1024), tiled=False), manifest, 60, max_tiles=9)
    assert part.outer is None
    assert (part.inner.x, part.inner.y, part.inner.size) == (0, 0, Size(500, 1024))


def test_small_objects_are_enlarged_by_tiles(manifest: PromptableManifest) -> None:
    extent = ImageExtent(Size(500, 1024), tiled=False)
    parts = plan_regions(extent, manifest, 20, max_tiles=None)
    covered = np.zeros((500, 1024), int)
    for part in parts:
        assert part.outer is not None
        assert 20 * 32 / max(part.outer.width, part.outer.height) >= 2 * MIN_OBJECT_CELLS * 0.95
        covered[part.inner.y :, part.inner.x :][: part.inner.height, : part.inner.width] += 1
    assert (covered == 1).all()
    assert len(plan_regions(extent, manifest, 2, max_tiles=9)) <= 9, (
        "larger tiles, where there would be too many"
    )


def test_examples_are_described_at_the_scale_that_is_searched(manifest: PromptableManifest) -> None:
    extent = ImageExtent(Size(500, 1024), tiled=False)
    mask = Crop(np.ones((20, 20), np.bool_), 700, 300, extent.size)
    outer = plan_regions(extent, manifest, 20, max_tiles=None)[0].outer
    region = choose_region(extent, manifest, 20, mask)
    assert region is not None
    assert outer is not None
    assert region.size == outer.size
    assert region.x <= 700 < 720 <= region.x + region.width
    assert choose_region(extent, manifest, 60, mask) is None


def test_a_large_image_is_searched_in_its_tiles(manifest: PromptableManifest) -> None:
    extent = ImageExtent(Size(3000, 5000), tiled=True)
    assert len(plan_regions(extent, manifest, 40, max_tiles=60)) == 6 * 10
    with pytest.raises(TooManyTiles):  # an input of 512 may have four times as many
        plan_regions(extent, manifest, 40, max_tiles=14)
    large = plan_regions(replace(extent), manifest, 300, max_tiles=60)
    assert {part.inner.width for part in large} >= {2048}, "tiles whose halo holds an object on a seam"
