"""An outline encloses the centres of exactly the mask's pixels."""

from typing import Any

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from segserve.masks import crop as crops
from segserve.masks.polygon import to_geojson
from segserve.types import Bool, Crop, Size

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def polygons_of(geometry: dict[str, Any]) -> list[list[NDArray[np.float64]]]:
    """Each polygon's rings, the outer one first."""
    coordinates = geometry["coordinates"]
    polygons = coordinates if geometry["type"] == "MultiPolygon" else [coordinates]
    return [[np.array(ring) for ring in polygon] for polygon in polygons if polygon]


def rings_of(geometry: dict[str, Any]) -> list[NDArray[np.float64]]:
    return [ring for polygon in polygons_of(geometry) for ring in polygon]


def inside(ring: NDArray[np.float64], size: Size) -> Bool:
    """Which pixel centres [H, W] a ray to the right leaves the ring an odd number of times from."""
    y = np.arange(size.height)[:, None, None] + 0.5
    x = np.arange(size.width)[None, :, None] + 0.5
    (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
    crosses = (y0 > y) != (y1 > y)
    rise = np.where(y1 == y0, 1, y1 - y0)
    odd: Bool = (crosses & (x < x0 + (y - y0) * (x1 - x0) / rise)).sum(axis=2) % 2 == 1
    return odd


def filled(rings: list[NDArray[np.float64]], size: Size) -> Bool:
    """The pixels with their centres inside by the even-odd rule."""
    mask = np.zeros((size.height, size.width), np.bool_)
    for ring in rings:
        mask ^= inside(ring, size)
    return mask


def signed_area(ring: NDArray[np.float64]) -> float:
    """Positive if counter-clockwise with y upwards."""
    (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
    return float((x0 * y1 - x1 * y0).sum() / 2)


@settings(max_examples=300, deadline=None)
@given(masks)
def test_pixels_are_those_with_their_centre_inside(mask: Bool) -> None:
    geometry = to_geojson(crops.from_mask(mask))
    assert np.array_equal(filled(rings_of(geometry), Size(*mask.shape)), mask)


@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_a_crop_lies_where_it_belongs(pixels: Bool, x: int, y: int) -> None:
    crop = Crop(pixels, x, y, Size(y + pixels.shape[0] + 2, x + pixels.shape[1] + 2))
    assert np.array_equal(filled(rings_of(to_geojson(crop)), crop.size), crops.to_mask(crop))


@given(masks)
def test_polygons_do_not_overlap_and_holes_are_their_own(mask: Bool) -> None:
    size = Size(*mask.shape)
    times = np.zeros(mask.shape, np.int64)
    for outer, *holes in polygons_of(to_geojson(crops.from_mask(mask))):
        within = inside(outer, size)
        for hole in holes:
            assert not (inside(hole, size) & ~within).any()
        times += filled([outer, *holes], size)
    assert np.array_equal(times, mask.astype(np.int64))


@given(masks)
def test_rings_follow_rfc_7946(mask: Bool) -> None:
    for outer, *holes in polygons_of(to_geojson(crops.from_mask(mask))):
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert len(ring) >= 4
            assert (ring[0] == ring[-1]).all()


@given(masks)
def test_points_are_corners_at_multiples_of_a_half(mask: Bool) -> None:
    for ring in rings_of(to_geojson(crops.from_mask(mask))):
        assert (ring * 2 == np.round(ring * 2)).all()
        step = np.diff(ring, axis=0)
        following = np.roll(step, -1, axis=0)
        assert (step[:, 0] * following[:, 1] != step[:, 1] * following[:, 0]).all()


def test_a_rectangle_has_eight_corners() -> None:
    mask = np.zeros((6, 9), np.bool_)
    mask[1:4, 2:7] = True
    geometry = to_geojson(crops.from_mask(mask))
    (ring,) = geometry["coordinates"]
    assert geometry["type"] == "Polygon"
    assert sorted(map(tuple, ring[:-1])) == [
        (2.0, 1.5),
        (2.0, 3.5),
        (2.5, 1.0),
        (2.5, 4.0),
        (6.5, 1.0),
        (6.5, 4.0),
        (7.0, 1.5),
        (7.0, 3.5),
    ]


def test_nested_rings_are_polygons_with_holes() -> None:
    mask = np.zeros((11, 11), np.bool_)
    for margin in range(5):
        mask[margin : 11 - margin, margin : 11 - margin] = margin % 2 == 0
    geometry = to_geojson(crops.from_mask(mask))
    assert geometry["type"] == "MultiPolygon"
    assert sorted(len(polygon) for polygon in geometry["coordinates"]) == [1, 2, 2]
    assert np.array_equal(filled(rings_of(geometry), Size(11, 11)), mask)


def test_pixels_that_touch_diagonally_are_separate() -> None:
    geometry = to_geojson(crops.from_mask(np.eye(2, dtype=np.bool_)))
    assert geometry["type"] == "MultiPolygon"
    assert len(geometry["coordinates"]) == 2


def test_an_empty_mask_has_no_rings() -> None:
    assert to_geojson(crops.from_mask(np.zeros((3, 3), np.bool_))) == {"type": "Polygon", "coordinates": []}


@given(masks, st.floats(0.1, 4))
def test_simpler_outlines_keep_all_parts_and_holes_and_stay_near(mask: Bool, tolerance: float) -> None:
    crop = crops.from_mask(mask)
    whole, simple = to_geojson(crop), to_geojson(crop, tolerance)
    assert [len(rings) for rings in polygons_of(simple)] == [len(rings) for rings in polygons_of(whole)]
    before, after = shapely.geometry.shape(whole), shapely.geometry.shape(simple)
    assert after.is_valid
    assert shapely.get_num_coordinates(after) <= shapely.get_num_coordinates(before)
    if not before.is_empty:
        # Where a ring begins, GEOS compares with the lines before and after, and not with the one that remains.
        assert shapely.hausdorff_distance(before.boundary, after.boundary) <= 2 * tolerance + 1e-9
    for outer, *holes in polygons_of(simple):
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)


def test_a_disc_needs_a_fifth_of_its_vertices() -> None:
    y, x = np.mgrid[:80, :80]
    crop = crops.from_mask((x - 40) ** 2 + (y - 40) ** 2 < 35**2)
    before, after = (shapely.geometry.shape(to_geojson(crop, tolerance)) for tolerance in (0.0, 1.0))
    assert shapely.get_num_coordinates(after) <= shapely.get_num_coordinates(before) / 5
    assert before.intersection(after).area / before.union(after).area > 0.97
