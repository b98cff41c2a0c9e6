"""Masks as X-AnyLabeling's shapes: polygons without holes, each part a shape of its own."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from segserve.masks import polygon
from segserve.types import Crop
from segserve.wire.schemas.common import MAX_TOLERANCE_PX

# The client shows such a shape as a proposal, and asks for its label when the user finishes the object.
PROPOSED_LABEL = "AUTOLABEL_OBJECT"
# Polygons of fewer positions, the first one twice, are lines.
MIN_POSITIONS = 4

Json = dict[str, Any]


def to_shapes(
    mask: Crop, label: str, score: float | None, epsilon_factor: float, group_id: int | None = None
) -> list[Json]:
    """Return a polygon for each part of a mask; its holes are lost, for the client has none.

    epsilon_factor: vertices are left out as long as no line moves by more than this part of the outline's length.
    group_id: of a mask with several parts, so that they stay one object.
    """
    rings = list(outer_rings(polygon.to_geojson(mask)))
    if epsilon_factor > 0 and rings:
        length = max(ring_length(ring) for ring in rings)
        rings = list(outer_rings(polygon.to_geojson(mask, min(epsilon_factor * length, MAX_TOLERANCE_PX))))
    shapes = [
        {"label": label, "shape_type": "polygon", "points": ring, "score": score}
        for ring in rings
        if len(ring) >= MIN_POSITIONS
    ]
    return [{**shape, "group_id": group_id} for shape in shapes] if len(shapes) > 1 else shapes


def outer_rings(geometry: Json) -> Iterator[list[list[float]]]:
    """Yield the outline of each part of a GeoJSON geometry."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for rings in parts:
        yield from rings[:1]


def ring_length(ring: list[list[float]]) -> float:
    """Return the length of an outline in pixels."""
    steps = np.diff(np.array(ring), axis=0)
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum())
