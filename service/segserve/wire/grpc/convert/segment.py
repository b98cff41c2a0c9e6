"""Segment: masks for prompts, between messages and what is used inside."""

from collections.abc import Callable

import numpy as np
import orjson

from segserve.decode.segmenter import MaskResult, SegmentResult
from segserve.masks import png, polygon
from segserve.types import Candidate, Select
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.objects import area_and_box, crop_to_rle
from segserve.wire.grpc.convert.prompts import check_counts, prompt_from_message
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.segment import MaskFormat, SegmentIn

SELECT = dict(enumerate([Select.BEST, Select.BEST, Select.ALL, Select.FIRST]))
FORMAT = dict(enumerate([MaskFormat.RLE, *MaskFormat]))


def segment_from_message(message: segmentation_pb2.SegmentRequest) -> SegmentIn:
    """Raises BadInput naming the field at fault."""
    check_counts(message.prompts)
    return validate_body(
        SegmentIn,
        {
            "image_id": message.image_id,
            "model": message.model or None,
            "prompts": [prompt_from_message(prompt) for prompt in message.prompts],
            "format": decode_enum(FORMAT, message.format, "format"),
            "select": decode_enum(SELECT, message.select, "select"),
            "multimask": message.multimask if message.HasField("multimask") else None,
            "raw": message.raw,
            "tolerance": message.tolerance if message.HasField("tolerance") else None,
        },
    )


def create_renderer(
    mask_format: MaskFormat, tolerance: float | None
) -> Callable[[Candidate], segmentation_pb2.Mask]:
    """The function that makes the message of one mask, without its mask_id. tolerance: of polygons."""

    def render(candidate: Candidate) -> segmentation_pb2.Mask:
        message = segmentation_pb2.Mask(
            score=candidate.score,
            removed_parts=candidate.removed_parts,
            filled_holes=candidate.filled_holes,
            **area_and_box(candidate.crop),
        )
        match mask_format:
            case MaskFormat.RLE:
                message.rle.CopyFrom(crop_to_rle(candidate.crop))
            case MaskFormat.POLYGON:
                message.polygon = orjson.dumps(polygon.to_geojson(candidate.crop, tolerance or 0)).decode()
            case MaskFormat.PNG:
                message.png = png.encode(candidate.crop)
            case MaskFormat.LOGITS:
                height, width = np.shape(candidate.logits)
                data = candidate.logits.astype("<f2").tobytes()
                message.logits.CopyFrom(segmentation_pb2.Logits(height=height, width=width, data=data))
        return message

    return render


def segment_to_message(result: SegmentResult[segmentation_pb2.Mask]) -> segmentation_pb2.SegmentResponse:
    """The answer. result: its masks are rendered by `create_renderer`."""
    return segmentation_pb2.SegmentResponse(
        image_id=result.image_id,
        model=result.model,
        width=result.size.width,
        height=result.size.height,
        results=[
            segmentation_pb2.SegmentResult(masks=[add_mask_id(mask) for mask in masks])
            for masks in result.results
        ],
        hints=result.hints,
    )


def add_mask_id(mask: MaskResult[segmentation_pb2.Mask]) -> segmentation_pb2.Mask:
    mask.rendered.mask_id = mask.mask_id or ""
    return mask.rendered
