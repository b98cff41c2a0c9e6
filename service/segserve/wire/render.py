"""Masks as the formats that clients ask for."""

import base64
from typing import Any

import numpy as np

from segserve.decode.segment import Segmentation
from segserve.masks import crop, png, polygon, rle
from segserve.types import Candidate, Float32
from segserve.wire.schemas import MaskFormat


def segmentation(answer: Segmentation, mask_format: MaskFormat) -> dict[str, Any]:
    """The JSON of `SegmentOut`."""
    return {
        "image_id": answer.image_id,
        "model": answer.model,
        "width": answer.size.width,
        "height": answer.size.height,
        "results": [
            {"masks": [candidate(c, i, mask_format) for c, i in zip(found, ids, strict=True)]}
            for found, ids in zip(answer.candidates, answer.mask_ids, strict=True)
        ],
    }


def candidate(found: Candidate, mask_id: str | None, mask_format: MaskFormat) -> dict[str, Any]:
    return {
        "mask": mask(found, mask_format),
        "score": found.score,
        "box": list(crop.bounding_box(found.crop)),
        "area": crop.area(found.crop),
        "mask_id": mask_id,
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
