"""Objects of tiles become the objects of the image: the same partition, each with one id."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from scipy import ndimage

from segserve.automatic.stitch_tiles import Stitcher, check_tile_count, segment_tiles
from segserve.bounded_executor import BoundedExecutor
from segserve.errors import Busy, TooLarge
from segserve.images.tiling import TileGrid, make_tile_grid
from segserve.masks import label_map
from segserve.metrics import Metrics
from segserve.types import Region, SegmentedObject, Size
from tests.automatic.ais_cases import adjusted_rand

Segment = Callable[[Region], list[SegmentedObject]]


def cells(height: int, width: int, count: int, seed: int = 0) -> np.ndarray:
    """Draw ellipses of many sizes, some touching, as a label map."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((height, width), np.int32)
    y, x = np.ogrid[:height, :width]
    for index in range(count):
        cy, cx, b, a = rng.uniform((0, 0, 4, 4), (height, width, 25, 25))
        free = drawn == 0
        drawn[(((y - cy) / b) ** 2 + ((x - cx) / a) ** 2 < 1) & free] = index + 1
    # An ellipse under others may fall into several parts; each is then an object of its own.
    parts = np.zeros_like(drawn)
    for index in range(1, count + 1):
        numbers, _ = ndimage.label(drawn == index, np.ones((3, 3)))
        parts[numbers > 0] = numbers[numbers > 0] + parts.max()
    return parts


def segment_exactly(truth: np.ndarray) -> Segment:
    """Return a function that finds the true objects of a region, in a random order."""

    def segment(region: Region) -> list[SegmentedObject]:
        part = truth[region.y : region.y + region.height, region.x : region.x + region.width]
        rng = np.random.default_rng(region.x * 1009 + region.y)
        ids = np.unique(part[part > 0])
        table = np.zeros(truth.max() + 1, np.int32)
        table[ids] = 1 + rng.permutation(len(ids))
        return [SegmentedObject(crop, score=0.5, category="cell") for crop in label_map.to_crops(table[part])]

    return segment


def stitch(tiles: TileGrid, segment: Segment) -> np.ndarray:
    stitcher = Stitcher(tiles)
    for tile in tiles:
        stitcher.add(tile, segment(tile.outer))
    objects = stitcher.objects()
    assert {each.category for each in objects} <= {"cell"}
    total = sum(int(each.crop.pixels.sum()) for each in objects)
    result = label_map.from_crops([each.crop for each in objects], tiles.size)
    assert total == np.count_nonzero(result), "no two have a pixel in common"
    return result


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(pairs[0]) == len(np.unique(a)) == len(np.unique(b)) and ((a > 0) == (b > 0)).all()


@pytest.mark.parametrize("edge", [32, 50, 64, 100])
def test_stitched_cells_are_the_true_partition(edge: int) -> None:
    truth = cells(230, 310, 150)
    assert same_partition(stitch(TileGrid(Size(230, 310), edge, edge // 4), segment_exactly(truth)), truth)


def test_an_object_over_many_tiles_has_one_id() -> None:
    truth = np.zeros((300, 300), np.int32)
    truth[140:150, 5:295] = 1  # a line over all columns
    truth[20:280, 200:203] = 2  # one across it
    truth[140:150, 200:203] = 1
    truth[10:120, 10:120] = 3
    truth[30:100, 30:100] = 0  # a ring
    truth[60:70, 60:70] = 4  # and what lies in it
    labels = stitch(TileGrid(Size(300, 300), 40, 10), segment_exactly(truth))
    expected = truth.copy()
    assert len(np.unique(labels)) == len(np.unique(expected))
    assert same_partition(labels, expected)


def test_an_object_that_meets_its_tile_only_at_a_corner_stays_one() -> None:
    truth = np.zeros((80, 80), np.int32)
    for step in range(70):
        truth[step + 3 : step + 8, step + 5 : step + 10] = 1  # along the diagonal
    assert same_partition(stitch(TileGrid(Size(80, 80), 20, 6), segment_exactly(truth)), truth)


def test_objects_whose_outlines_differ_between_tiles_are_still_joined() -> None:
    """Like a network, each tile errs at the outlines, and finds nothing in its outermost pixels."""
    truth = cells(400, 500, 160, seed=3)
    exact = segment_exactly(truth)

    def segment(region: Region) -> list[SegmentedObject]:
        rng = np.random.default_rng(region.x + 7 * region.y)
        objects = []
        for each in exact(region):
            mask = np.zeros((region.height, region.width), np.bool_)
            crop = each.crop
            height, width = crop.pixels.shape
            mask[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
            ragged = ndimage.binary_dilation(mask) & (rng.random(mask.shape) < 0.5) | ndimage.binary_erosion(
                mask
            )
            ragged[:2] = ragged[-2:] = ragged[:, :2] = ragged[:, -2:] = False
            if ragged.any():
                objects.append(SegmentedObject(label_map.to_crops(ragged.astype(np.uint8))[0], 0.5, "cell"))
        return objects

    tiles = TileGrid(Size(400, 500), 100, 25)
    inside = (ndimage.minimum_filter(truth, 3) == ndimage.maximum_filter(truth, 3)) & (truth > 0)
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
    assert adjusted_rand(truth[inside], stitch(tiles, segment)[inside]) > 0.99


def test_an_object_that_merges_two_of_the_other_tile_is_joined_to_one() -> None:
    truth = np.zeros((40, 80), np.int32)
    truth[5:20, 30:50], truth[20:30, 30:50] = 1, 2
    merged = np.where(truth > 0, 1, 0)

    def segment(region: Region) -> list[SegmentedObject]:
        return segment_exactly(truth if region.x == 0 else merged)(region)

    labels = stitch(TileGrid(Size(40, 80), 40, 10), segment)
    assert labels[10, 35] == labels[10, 45] == labels[25, 45], "the larger of the two gets it"
    assert labels[25, 35] not in (0, labels[10, 35])


def test_ids_and_scores_follow_the_objects() -> None:
    truth = np.zeros((60, 60), np.int32)
    truth[10:20, 25:50] = 1  # most of it in the second tile
    tiles = TileGrid(Size(60, 60), 30, 8)
    stitcher = Stitcher(tiles)
    for tile in tiles:
        objects = segment_exactly(truth)(tile.outer)
        stitcher.add(tile, [SegmentedObject(each.crop, 0.1 + tile.column / 2, "cell") for each in objects])
    [merged] = stitcher.objects()
    assert merged.score == 0.6
    assert (merged.crop.x, merged.crop.y, merged.crop.pixels.shape) == (25, 10, (10, 25))


def test_tiles_without_objects_give_none() -> None:
    assert stitch(TileGrid(Size(50, 50), 20, 5), lambda region: []).max() == 0


def test_the_error_names_the_limit_of_tiles() -> None:
    check_tile_count(make_tile_grid(Size(8192, 8192), 1024), 64, 1024)
    check_tile_count(make_tile_grid(Size(8192, 8192), 512), 64, 512)
    with pytest.raises(TooLarge) as refusal:
        check_tile_count(make_tile_grid(Size(8193, 8192), 1024), 64, 1024)
    assert "72 tiles" in refusal.value.message
    assert "64" in refusal.value.message
    assert "SEGSERVE_AUTOMATIC_TILES" in refusal.value.remedy


def run(segment: Callable[[Region], Awaitable[list[SegmentedObject]]]) -> list[SegmentedObject]:
    async def scenario() -> list[SegmentedObject]:
        executor = BoundedExecutor(1, 0, Metrics())
        try:
            return await segment_tiles(TileGrid(Size(60, 60), 30, 8), segment, executor)
        finally:
            executor.close()

    return asyncio.run(scenario())


def test_only_the_first_tile_is_refused_when_busy_and_later_ones_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segserve.automatic.stitch_tiles.BUSY_RETRY_S", 0.001)
    requested: list[Region] = []

    async def busy_in_between(region: Region) -> list[SegmentedObject]:
        requested.append(region)
        if len(requested) in (2, 3, 5):
            raise Busy("full")
        return []

    assert run(busy_in_between) == []
    assert len(requested) == 4 + 3

    async def busy(region: Region) -> list[SegmentedObject]:
        raise Busy("full")

    with pytest.raises(Busy):
        run(busy)
