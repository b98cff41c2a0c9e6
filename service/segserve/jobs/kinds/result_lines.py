"""The JSON of a mask in the result lines of jobs: COCO run lengths (RLE), bounding box and area."""

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
