"""Masks as the GeoJSON features that the extension reads."""

from typing import Any

from segserve.masks import crop, polygon
from segserve.types import Crop

Json = dict[str, Any]


def fills_view(mask: Crop) -> bool:
    """Whether a mask reaches all four edges of the view: it is the background, or the view itself."""
    return crop.bounding_box(mask) == (0, 0, mask.size.width, mask.size.height)


def to_feature(mask: Crop, quality: float | None, index: int, model: str) -> Json | None:
    """Return the feature of a mask, None where it is empty: QuPath reads no geometry without positions.

    quality: None leaves it out, as sequences do.
    """
    geometry = polygon.to_geojson(mask)
    if not geometry["coordinates"]:
        return None
    properties: Json = {"object_idx": index, "label": "object", "sam_model": model}
    if quality is not None:
        properties["quality"] = quality
    return {"type": "Feature", "geometry": geometry, "properties": properties}
