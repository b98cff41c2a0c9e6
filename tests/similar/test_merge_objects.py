"""The objects of all parts of an image in one list."""

import numpy as np

from segserve.masks import crop as crops
from segserve.similar.merge_objects import has_middle_in, merge_objects, move_to_image, touches_cut
from segserve.similar.search_region import SimilarObject
from segserve.types import Crop, Region, Size

SIZE = Size(60, 80)


def square(x: int, y: int, side: int = 10, size: Size = SIZE) -> Crop:
    return Crop(np.ones((side, side), np.bool_), x, y, size)


def found(crop: Crop, rank: float, likeness: float = 1) -> SimilarObject:
    return SimilarObject(crop, crop, 0.9, np.zeros(3, np.float32), likeness, rank)


def test_of_overlapping_objects_the_best_stays_and_no_two_share_pixels() -> None:
    best, duplicate, neighbour = (
        found(square(10, 10), 0.9, 0.8),
        found(square(13, 12), 0.7),
        found(square(18, 10), 0.5),
    )
    merged = merge_objects([], [neighbour, duplicate, best], 10)
    assert [item.rank for item in merged] == [0.5, 0.9], "by descending likeness"
    masks = [crops.to_mask(item.crop) for item in merged]
    assert not (masks[0] & masks[1]).any()
    assert [mask.sum() for mask in masks] == [80, 100]
    assert crops.bounding_box(merged[0].crop) == (20, 10, 28, 20)


def test_examples_are_not_found_again_and_keep_their_pixels() -> None:
    example = square(30, 30)
    merged = merge_objects([example], [found(square(31, 30), 1), found(square(38, 30), 0.5)], 10)
    assert [crops.bounding_box(item.crop) for item in merged] == [(40, 30, 48, 40)]


def test_only_the_best_are_kept() -> None:
    objects = [found(square(x, 5), x / 100, likeness=-x) for x in (5, 25, 45, 65)]
    assert [item.rank for item in merge_objects([], objects, 2)] == [0.45, 0.65]


def test_objects_of_a_tile_belong_to_it_by_their_middle_and_are_whole() -> None:
    region = Region(20, 10, 40, 40)
    moved = move_to_image(found(square(3, 4, size=region.size), 1), region, SIZE).crop
    assert crops.bounding_box(moved) == (23, 14, 33, 24)
    assert moved.size == SIZE
    assert has_middle_in(moved, Region(28, 19, 5, 5))
    assert not has_middle_in(moved, Region(29, 19, 5, 5))
    assert not touches_cut(moved, region)
    assert touches_cut(square(20, 14), region)
    assert touches_cut(square(50, 14), region)
    assert touches_cut(square(30, 40), region)
    assert not touches_cut(square(0, 0), None)
    assert not touches_cut(square(0, 0), Region(0, 0, 40, 40)), "the image's own edge cuts nothing"
