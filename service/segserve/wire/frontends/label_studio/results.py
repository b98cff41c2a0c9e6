"""Masks as regions of Label Studio: brushes, bitmasks, polygons, rectangles and keypoints."""

import base64
import secrets
from io import BytesIO
from typing import Any

from PIL import Image

from segserve.masks import crop, geometry, polygon
from segserve.types import Crop, Size
from segserve.wire.frontends.label_studio import brush_rle
from segserve.wire.frontends.label_studio.label_config import Control, Shape

Json = dict[str, Any]

# Of a keypoint, in percent of the image's width.
KEYPOINT_WIDTH = 0.5
# Polygons of fewer positions, the first one twice, are lines.
MIN_POSITIONS = 4


def write_values(mask: Crop, shape: Shape, tolerance: float) -> list[Json]:
    """Return the value of each region that a mask becomes, none if it is empty. Blocks.

    tolerance: of polygons, in pixels. They have no holes, and each part is a region.
    """
    mask = crop.trim_crop(mask)
    if not mask.pixels.size:
        return []
    size = mask.size
    match shape:
        case Shape.BRUSH:
            return [{"format": "rle", "rle": brush_rle.encode(mask)}]
        case Shape.BITMASK:
            return [write_bitmask(mask)]
        case Shape.POLYGON:
            rings = outer_rings(polygon.to_geojson(mask, tolerance))
            return [{"points": ring_to_percent(ring, size), "closed": True} for ring in rings]
        case Shape.RECTANGLE:
            return [{**box_to_percent(crop.bounding_box(mask), size), "rotation": 0}]
        case Shape.KEYPOINT:
            x, y = geometry.deepest_pixel(mask.pixels)
            return [
                {
                    "x": (mask.x + x + 0.5) / size.width * 100,
                    "y": (mask.y + y + 0.5) / size.height * 100,
                    "width": KEYPOINT_WIDTH,
                }
            ]


def write_regions(
    values: list[Json], control: Control, label: str | None, size: Size, score: float | None
) -> list[Json]:
    """Return the regions of an object. values: as `write_values` returns them."""
    regions = []
    for value in values:
        region: Json = {
            "id": secrets.token_urlsafe(8),
            "from_name": control.name,
            "to_name": control.to_name,
            "original_width": size.width,
            "original_height": size.height,
            "image_rotation": 0,
            "type": control.shape.value,
            "value": value,
            "origin": "prediction",
            "readonly": False,
        }
        if score is not None:
            region["score"] = score
        if control.labels_tag is not None and label is not None:
            regions.append(region)
            # The label is a result of its own, of the same region.
            labelled = {**region, "type": "labels", "from_name": control.labels_tag}
            regions.append({**labelled, "value": {**value, "labels": [label]}})
        elif control.labels:
            kind = f"{control.shape}labels"
            regions.append({**region, "type": kind, "value": {**value, kind: [label]}})
        else:
            regions.append(region)
    return regions


def write_bitmask(mask: Crop) -> Json:
    """Return a PNG of the whole image, transparent outside of the mask: Label Studio reads its opacity."""
    file = BytesIO()
    Image.fromarray(crop.to_mask(mask)).save(file, "PNG", transparency=0)
    return {"imageDataURL": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}


def outer_rings(shape: Json) -> list[list[list[float]]]:
    """Return the outline of each part of a GeoJSON geometry."""
    parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    return [rings[0] for rings in parts if len(rings[0]) >= MIN_POSITIONS]


def ring_to_percent(ring: list[list[float]], size: Size) -> list[list[float]]:
    """Return the positions of an outline once each, in percent of the image."""
    return [[x / size.width * 100, y / size.height * 100] for x, y in ring[:-1]]


def box_to_percent(box: tuple[int, int, int, int], size: Size) -> Json:
    x0, y0, x1, y1 = box
    return {
        "x": x0 / size.width * 100,
        "y": y0 / size.height * 100,
        "width": (x1 - x0) / size.width * 100,
        "height": (y1 - y0) / size.height * 100,
    }
