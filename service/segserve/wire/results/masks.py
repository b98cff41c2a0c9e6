"""Masks as the formats that clients ask for."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from segserve.decode.segmenter import SegmentResult
from segserve.masks import crop, png, polygon, rle
from segserve.types import Candidate, Float32
from segserve.wire.schemas.common import MaskFormat

Json = dict[str, Any]


def picture(found: Candidate) -> bytes:
    """The mask as the bytes of a PNG."""
    return png.encode(found.crop)


def formatter(mask_format: MaskFormat) -> Callable[[Candidate], Json]:
    """How to make the JSON of one mask (`MaskOut`, without its id)."""

    def render(found: Candidate) -> Json:
        return {
            "mask": mask(found, mask_format),
            "score": found.score,
            "box": list(crop.bounding_box(found.crop)),
            "area": crop.area(found.crop),
        }

    return render


def segmentation(answer: SegmentResult[Json]) -> dict[str, Any]:
    """The JSON of `SegmentOut`, of masks rendered by a `formatter`."""
    return {
        "image_id": answer.image_id,
        "model": answer.model,
        "width": answer.size.width,
        "height": answer.size.height,
        "results": [
            {"masks": [{**found.rendered, "mask_id": found.mask_id} for found in result]}
            for result in answer.results
        ],
    }


def mask(found: Candidate, mask_format: MaskFormat) -> dict[str, Any] | str:
    if mask_format is MaskFormat.RLE:
        size = found.crop.size
        return {"size": [size.height, size.width], "counts": rle.encode(found.crop)}
    if mask_format is MaskFormat.POLYGON:
        return polygon.to_geojson(found.crop)
    if mask_format is MaskFormat.PNG:
        return base64.b64encode(png.encode(found.crop)).decode()
    return logits(found.logits)


def logits(array: Float32) -> dict[str, Any]:
    data = base64.b64encode(array.astype("<f2").tobytes()).decode()
    return {"size": list(np.shape(array)), "data": data}
