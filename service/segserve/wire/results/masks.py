"""Masks of prompts in the formats of POST /v1/segment."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from segserve.decode.segmenter import SegmentResult
from segserve.masks import crop, png, polygon, rle
from segserve.types import Candidate, Float32
from segserve.wire.results.objects import hints_to_json
from segserve.wire.schemas.segment import MaskFormat

Json = dict[str, Any]


def mask_to_png(candidate: Candidate) -> bytes:
    """The mask as a PNG file, 1-bit."""
    return png.encode(candidate.crop)


def create_renderer(mask_format: MaskFormat, tolerance: float | None = None) -> Callable[[Candidate], Json]:
    """The function that makes the JSON of one mask (`MaskOut`, without its mask_id), for orjson. Blocks.

    tolerance: of polygons.
    """

    def render(candidate: Candidate) -> Json:
        return {
            # Written here, in a thread: logits and polygons may be megabytes.
            "mask": orjson.Fragment(orjson.dumps(mask_to_json(candidate, mask_format, tolerance))),
            "score": candidate.score,
            "box": list(crop.bounding_box(candidate.crop)),
            "area": crop.area(candidate.crop),
            "removed_parts": candidate.removed_parts,
            "filled_holes": candidate.filled_holes,
        }

    return render


def segment_to_json(result: SegmentResult[Json]) -> Json:
    """The JSON of `SegmentOut`. result: its masks are rendered by `create_renderer`."""
    return {
        "image_id": result.image_id,
        "model": result.model,
        "width": result.size.width,
        "height": result.size.height,
        "results": [
            {"masks": [{**mask.rendered, "mask_id": mask.mask_id} for mask in masks]}
            for masks in result.results
        ],
        **hints_to_json(result.hints),
    }


def mask_to_json(candidate: Candidate, mask_format: MaskFormat, tolerance: float | None = None) -> Json | str:
    """The mask alone: an object for RLE, polygons and logits, base64 for PNG."""
    match mask_format:
        case MaskFormat.RLE:
            size = candidate.crop.size
            return {"size": [size.height, size.width], "counts": rle.encode(candidate.crop)}
        case MaskFormat.POLYGON:
            return polygon.to_geojson(candidate.crop, tolerance or 0)
        case MaskFormat.PNG:
            return base64.b64encode(png.encode(candidate.crop)).decode()
        case MaskFormat.LOGITS:
            return logits_to_json(candidate.logits)


def logits_to_json(logits: Float32) -> Json:
    """Low-res logits [h, w] as float16 in base64, which a prompt's `logits` takes back."""
    data = base64.b64encode(logits.astype("<f2").tobytes()).decode()
    return {"size": list(np.shape(logits)), "data": data}
