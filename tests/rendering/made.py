"""Result lines of jobs, made of masks."""

from collections.abc import Mapping

import numpy as np
import orjson

from segserve.masks import crop, rle
from segserve.rendering.result_index import ResultIndex
from segserve.types import Bool, Size


def disc(size: Size, x: float, y: float, radius: float) -> Bool:
    rows, columns = np.ogrid[: size.height, : size.width]
    found: Bool = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return found


def line(frame: int, masks: Mapping[int, Bool], *, word: str = "frame", size: Size | None = None) -> bytes:
    size = size or Size(*next(iter(masks.values())).shape)
    objects = []
    for object_id, mask in masks.items():
        part = crop.from_mask(mask)
        objects.append({
            "object_id": object_id,
            "mask": {"size": [size.height, size.width], "counts": rle.encode(part)},
            "box": list(crop.bounding_box(part)),
            "area": crop.area(part),
            "score": 0.9,
        })  # fmt: skip
    return orjson.dumps({word: frame, "width": size.width, "height": size.height, "objects": objects})


def lines_of(*given: bytes) -> ResultIndex:
    lines = ResultIndex()
    lines.add_lines(given)
    return lines
