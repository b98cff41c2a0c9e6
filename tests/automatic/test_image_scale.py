"""The scale of whole images: what is encoded follows from it, and from it what a small or large image shows."""

import numpy as np
import pytest

from segserve.automatic.image_scale import (
    MAX_SCALE,
    Observation,
    ScaleRequest,
    check_room,
    estimated_scale,
    fit_scale,
    join_observations,
    lay_out,
    observe,
    requested_scale,
    sample_windows,
    scale_of_slices,
)
from segserve.automatic.segmenter import cut_object, visible_size
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BadInput
from segserve.images.tiling import TileGrid
from segserve.masks.crop import from_mask, to_mask
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import Preprocess, Region, SegmentedObject, Size

MANIFEST = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)
INPUT_PX = 512
PREPROCESS = Preprocess(64, (100.0, 100.0, 100.0), (50.0, 50.0, 50.0), "pad")


def seen(count: int, diameter: float, certainty: float = 0.9, pixels: int = 10_000) -> Observation:
    return Observation(np.full(count, diameter, np.float32), certainty, pixels)


def test_the_scale_that_fits_encodes_the_image_itself() -> None:
    for size in (Size(512, 300), Size(1500, 1500), Size(61, 57)):
        assert lay_out(size, INPUT_PX, fit_scale(size, INPUT_PX)) is None


def test_a_finer_scale_makes_tiles_that_fill_the_input() -> None:
    tiles = lay_out(Size(1500, 1200), INPUT_PX, 2.0)
    assert isinstance(tiles, TileGrid)
    assert {(tile.outer.width, tile.outer.height) for tile in tiles} == {(256, 256)}


def test_a_coarser_scale_leaves_room_beside_the_image() -> None:
    assert lay_out(Size(61, 57), INPUT_PX, 2.0) == Region(0, 0, 256, 256)


def test_small_slices_are_enlarged_as_far_as_small_images() -> None:
    assert scale_of_slices(Size(61, 57), MANIFEST) == MAX_SCALE
    assert scale_of_slices(Size(256, 100), MANIFEST) is None
    assert scale_of_slices(Size(61, 57), MANIFEST.model_copy(update={"object_size": None})) is None


@pytest.mark.parametrize(
    ("size", "scale", "smallest"),
    [(Size(520, 696), 0.01, "0.18"), (Size(3000, 4000), 0.05, "0.064"), (Size(61, 57), 0.5, "1")],
)
def test_an_image_that_would_be_mostly_room_is_refused(size: Size, scale: float, smallest: str) -> None:
    region = lay_out(size, INPUT_PX, scale)
    assert isinstance(region, Region)
    with pytest.raises(BadInput, match="width") as caught:
        check_room(region, size, INPUT_PX, 64_000_000)
    assert (caught.value.field, f"a scale of {smallest} or more" in caught.value.remedy) == ("scale", True)
    allowed = lay_out(size, INPUT_PX, float(smallest) * 1.03)
    assert isinstance(allowed, Region)
    check_room(allowed, size, INPUT_PX, 64_000_000)


def test_without_a_scale_only_an_image_far_above_the_input_is_tiled_wherever_it_is_kept() -> None:
    assert lay_out(Size(2048, 100), INPUT_PX, None) is None
    assert lay_out(Size(2049, 100), INPUT_PX, None) == TileGrid(Size(2049, 100), 512, 128)
    assert lay_out(Size(100, 100), INPUT_PX, None, by_storage=True) == TileGrid(Size(100, 100), 512, 128)


def test_object_size_asks_for_the_scale_that_shows_it_at_the_models_best() -> None:
    assert MANIFEST.object_size is not None
    chosen = requested_scale(ScaleRequest(object_size=16), MANIFEST)
    assert chosen is not None
    assert (chosen.scale, chosen.object_size) == (MANIFEST.object_size / 16, 16)
    unknown = MANIFEST.model_copy(update={"object_size": None})
    assert requested_scale(ScaleRequest(object_size=40.96), unknown).scale == pytest.approx(1)  # type: ignore[union-attr]
    assert requested_scale(ScaleRequest(), MANIFEST) is None


def test_an_estimate_shows_the_objects_at_the_models_best() -> None:
    assert estimated_scale(seen(90, 40), 1.0, 0.3, 64).scale == pytest.approx(1.6)
    assert estimated_scale(seen(90, 10), 1.0, 0.3, 64).scale == MAX_SCALE
    assert estimated_scale(seen(90, 640), 1.0, 0.3, 64).scale == 0.3
    few = estimated_scale(seen(2, 10), 1.0, 0.3, 64)
    assert few.scale == 1.0
    assert "few" in few.reason


def test_a_pass_is_believed_where_objects_are_large_enough_and_clear() -> None:
    assert seen(9, 20).is_reliable(1.0)
    assert not seen(9, 20).is_reliable(0.5)
    assert not seen(9, 20, certainty=0.5).is_reliable(1.0)
    assert not seen(0, 0).is_reliable(1.0)


def test_observations_count_objects_by_area() -> None:
    labels = np.zeros((40, 50), np.int32)
    labels[2:12, 3:13], labels[20:30, 20:30] = 1, 2
    maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 3).astype(np.float32)
    found = observe(maps, labels)
    assert found.object_size == pytest.approx(np.sqrt(400 / np.pi))
    assert found.certainty == pytest.approx(0.8)
    both = join_observations([found, observe(maps * 0, labels * 0)])
    assert both.density == pytest.approx(2 / 4000)
    assert both.certainty == pytest.approx(0.8)


def test_windows_lie_on_the_image() -> None:
    for size in (Size(100, 900), Size(1500, 1500), Size(50, 60)):
        assert all(window.lies_in(size) for window in sample_windows(size, 300))
    assert len(sample_windows(Size(100, 200), 300)) == 1


def test_room_beside_an_image_is_padded_like_the_input_of_a_smaller_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    padded = preprocess_image(image, PREPROCESS, Size(64, 64), Size(20, 30))
    assert padded.shape == (1, 3, 64, 64)
    expected = (image.transpose(2, 0, 1) - np.float32(100)) / np.float32(50)
    np.testing.assert_allclose(padded[0, :, :20, :30], expected)
    assert not padded[0, :, 20:].any()
    assert not padded[0, :, :, 30:].any()


def test_objects_end_where_the_image_ends() -> None:
    region, image = Region(0, 0, 64, 64), Size(20, 30)
    assert visible_size(region, image) == image
    assert visible_size(Region(5, 5, 10, 10), image) is None
    assert visible_size(None, image) is None
    mask = np.zeros((64, 64), np.bool_)
    mask[15:40, 10:20] = True
    cut = cut_object(SegmentedObject(from_mask(mask)), image)
    assert cut is not None
    assert np.array_equal(to_mask(cut.crop), mask[:20, :30])
    outside = np.zeros((64, 64), np.bool_)
    outside[40:50, 40:50] = True
    assert cut_object(SegmentedObject(from_mask(outside)), image) is None
