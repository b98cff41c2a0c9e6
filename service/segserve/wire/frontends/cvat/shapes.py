"""Masks and polygons as CVAT reads them, and back."""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segserve.errors import TooLarge
from segserve.masks import crop, polygon
from segserve.types import MB, Bool, Crop, ImageObjects, Size
from segserve.wire.frontends.cvat.functions import OBJECT_LABEL

Json = dict[str, Any]

# Pixels of all masks of an answer together. Each is a number of the JSON, two bytes.
MAX_ANSWER_PIXELS = 64 * MB
# Vertices of polygons may move the line by so much.
TOLERANCE_PX = 1.0
OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def write_mask(mask: Crop) -> bytes:
    """Return the answer of an interactor: rows of 0 and 1, of the part of the image that holds the object.

    bounds: its left, top, right and bottom pixel. An empty mask is one pixel of 0. Raises TooLarge.
    """
    pixels, bounds = cut(mask)
    check_answer_pixels(pixels.size)
    return orjson.dumps({"mask": pixels.astype(np.uint8), "bounds": bounds}, option=OPTIONS)


def check_answer_pixels(count: int) -> None:
    """Check that so many pixels of masks may be answered. Raises TooLarge."""
    if count > MAX_ANSWER_PIXELS:
        raise TooLarge(
            f"The masks have {count // MB} megapixels together, more than {MAX_ANSWER_PIXELS // MB}.",
            field="image",
            remedy="Cut the image into smaller ones.",
        )


def cut(mask: Crop) -> tuple[Bool, list[int]]:
    """Return the pixels of an object [h, w], and its left, top, right and bottom pixel. Never without pixels."""
    trimmed = crop.trim_crop(mask)
    if not trimmed.pixels.size:
        return np.zeros((1, 1), np.bool_), [0, 0, 0, 0]
    height, width = trimmed.pixels.shape
    return trimmed.pixels, [trimmed.x, trimmed.y, trimmed.x + width - 1, trimmed.y + height - 1]


def write_objects(result: ImageObjects, threshold: float | None) -> bytes:
    """Return the answer of a detector. threshold: of the scores, where there are some. Raises TooLarge.

    A mask is a flat list of 0 and 1 with its bounds at the end. CVAT takes `points` instead where the user wants
    polygons: the outline of the largest part, for CVAT has no holes and no parts.
    """
    items = [
        item
        for item in result.objects
        if item.crop.pixels.any() and (not threshold or item.score is None or item.score >= threshold)
    ]
    shapes = [cut(item.crop) for item in items]
    check_answer_pixels(sum(pixels.size for pixels, _ in shapes))
    return orjson.dumps(
        [
            {
                "confidence": None if item.score is None else f"{item.score:.4f}",
                "label": item.category or OBJECT_LABEL,
                "type": "mask",
                "mask": np.concatenate([pixels.ravel().astype(np.int32), np.array(bounds, np.int32)]),
                **({"points": points} if (points := to_polygon(item.crop)) is not None else {}),
            }
            for item, (pixels, bounds) in zip(items, shapes, strict=True)
        ],
        option=OPTIONS,
    )


def to_polygon(mask: Crop) -> list[float] | None:
    """Return x, y of each vertex of the outline of the largest part, without holes; None for an empty mask."""
    geometry = polygon.to_geojson(mask, TOLERANCE_PX)
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    rings = [np.array(rings[0][:-1]) for rings in parts if rings]
    return max(rings, key=enclosed_area).ravel().tolist() if rings else None


def enclosed_area(ring: NDArray[np.float64]) -> float:
    """Return the area inside a ring [N, 2], by the shoelace formula."""
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def draw_polygon(points: list[float], size: Size) -> Bool:
    """Return the mask [H, W] of a polygon: the pixels whose centres are inside."""
    picture = Image.new("1", (size.width, size.height))
    corners = [(x - 0.5, y - 0.5) for x, y in zip(points[0::2], points[1::2], strict=True)]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    return np.array(picture)
