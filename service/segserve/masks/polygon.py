"""Convert a mask to its outline as GeoJSON polygons."""

from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from segserve.types import Crop

Ring = list[list[float]]


def to_geojson(crop: Crop, tolerance: float = 0.0) -> dict[str, Any]:
    """Return a GeoJSON "Polygon", or a "MultiPolygon" where the mask has several parts, with holes.

    An empty mask is a "Polygon" without rings. Coordinates are pixels of the image. (0, 0) is the top left corner
    of the top left pixel, so a pixel's centre lies at +0.5. The line runs halfway between the centres of pixels
    that are in the mask and neighbours that are not. Hence all coordinates are multiples of 0.5, corners are cut,
    and a pixel belongs to the mask exactly if its centre is inside. Pixels that touch only diagonally are separate
    parts.

    tolerance: pixels. Vertices are left out that lie within this distance of the line that remains (Douglas and
    Peucker, keeping the topology: GEOS); where a ring begins, up to twice as far. All parts and holes are kept, no line
    crosses another, and a part is at least a triangle.

    Rings are closed. Outer rings are counter-clockwise and holes clockwise (RFC 7946, section 3.1.6) in axes of x
    to the right and y upwards. On a screen, where y goes down, they appear the other way round.
    """
    polygons = _trace_polygons(crop)
    if tolerance > 0:
        polygons = _simplify(polygons, tolerance)
    if len(polygons) > 1:
        return {"type": "MultiPolygon", "coordinates": polygons}
    return {"type": "Polygon", "coordinates": polygons[0] if polygons else []}


def _trace_polygons(crop: Crop) -> list[list[Ring]]:
    """Return the polygons, each as an outer ring and its holes."""
    if not crop.pixels.size:
        return []
    # The border of zeros closes outlines at the crop's edge.
    values = np.pad(crop.pixels, 1).astype(np.float64)
    filled: Any = contour_generator(z=values, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    outlines, offsets = (
        filled  # for each polygon: its points [n, 2], and where in them the rings begin and end
    )
    # Index 1 of the padded values is the centre of the crop's first pixel.
    origin = np.array([crop.x - 0.5, crop.y - 0.5])
    return [
        [_drop_collinear_points(points[start:stop] + origin) for start, stop in pairwise(bounds)]
        for points, bounds in zip(outlines, offsets, strict=True)
    ]


def _simplify(polygons: list[list[Ring]], tolerance: float) -> list[list[Ring]]:
    """Return the polygons with fewer vertices. Together, so that those of two parts do not cross either."""
    import shapely  # slow to import, and rarely needed

    parts = shapely.MultiPolygon([(outer, holes) for outer, *holes in polygons])
    simplified = shapely.simplify(parts, tolerance, preserve_topology=True)
    return [
        [np.asarray(ring.coords).tolist() for ring in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(simplified)
    ]


def _drop_collinear_points(points: NDArray[np.float64]) -> Ring:
    """Return a closed ring [n, 2] without the points that lie on the line between their neighbours."""
    corners = points[:-1]
    after = np.diff(points, axis=0)
    before = np.roll(after, 1, axis=0)
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = corners[turns]
    ring: Ring = np.concatenate([kept, kept[:1]]).tolist()
    return ring
