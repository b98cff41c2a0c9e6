"""Result lines of jobs, made from drawn masks."""

from collections.abc import Mapping

import numpy as np
import orjson

from segserve.masks import crop, rle
from segserve.rendering.result_index import ResultIndex
from segserve.types import Bool, Size


def draw_disc(size: Size, x: float, y: float, radius: float) -> Bool:
    rows, columns = np.ogrid[: size.height, : size.width]
    mask: Bool = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return mask


def make_line(
    frame: int, masks: Mapping[int, Bool], *, index_key: str = "frame", size: Size | None = None
) -> bytes:
    size = size or Size(*next(iter(masks.values())).shape)
    objects = []
    for object_id, mask in masks.items():
        mask_crop = crop.from_mask(mask)
        objects.append({
            "object_id": object_id,
            "mask": {"size": [size.height, size.width], "counts": rle.encode(mask_crop)},
            "box": list(crop.bounding_box(mask_crop)),
            "area": crop.area(mask_crop),
            "score": 0.9,
        })  # fmt: skip
    return orjson.dumps({index_key: frame, "width": size.width, "height": size.height, "objects": objects})


def index_lines(*lines: bytes) -> ResultIndex:
    index = ResultIndex()
    index.add_lines(lines)
    return index
