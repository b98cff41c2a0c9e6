"""A line of results: what is on one slice."""

from typing import Any

from segserve.masks import crop, rle
from segserve.types import Crop


def mask_to_json(mask: Crop) -> dict[str, Any]:
    size = mask.size
    return {
        "mask": {"size": [size.height, size.width], "counts": rle.encode(mask)},
        "box": list(crop.bounding_box(mask)),
        "area": crop.area(mask),
    }
