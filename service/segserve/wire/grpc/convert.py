"""Between gRPC's messages and what is used inside. Requests become REST's schemas, so that both check alike."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from segserve.decode.segmenter import MaskResult, SegmentResult
from segserve.errors import BadInput
from segserve.masks import crop, png, polygon, rle
from segserve.types import Candidate, Normalise, Priority, ReadOptions, Region, Select
from segserve.v1 import encoder_pb2, segmentation_pb2
from segserve.wire.operations import segment
from segserve.wire.schemas.common import MaskFormat, SegmentIn

NORMALISE = dict(enumerate([Normalise.NONE, Normalise.NONE, Normalise.MINMAX, Normalise.PERCENTILE]))
SELECT = dict(enumerate([Select.BEST, Select.BEST, Select.ALL, Select.FIRST]))
FORMAT = dict(
    enumerate([MaskFormat.RLE, MaskFormat.RLE, MaskFormat.POLYGON, MaskFormat.PNG, MaskFormat.LOGITS])
)
PRIORITY = dict(enumerate([Priority.INTERACTIVE, Priority.INTERACTIVE, Priority.BATCH]))


def known(meanings: dict[int, Any], value: int, field: str) -> Any:
    """Raises BadInput for an enum's number that a newer client may know."""
    if value not in meanings:
        raise BadInput(f"{value} is not known here.", field=field, remedy=f"Send one of {sorted(meanings)}.")
    return meanings[value]


def read_options(message: segmentation_pb2.ReadOptions) -> ReadOptions:
    channels = tuple(message.channels) or None
    return ReadOptions(message.page, channels, known(NORMALISE, message.normalise, "options.normalise"))


def options_message(options: ReadOptions) -> segmentation_pb2.ReadOptions:
    return segmentation_pb2.ReadOptions(
        page=options.page,
        channels=options.channels or (),
        normalise=f"NORMALISE_{options.normalise.name}",
    )


def prompt_in(message: segmentation_pb2.Prompt) -> dict[str, Any]:
    """As REST's `PromptIn`."""
    prompt: dict[str, Any] = {
        "points": [(point.x, point.y) for point in message.points],
        "labels": [int(not point.negative) for point in message.points],
    }
    if message.HasField("box"):
        prompt["box"] = (message.box.x0, message.box.y0, message.box.x1, message.box.y1)
    match message.WhichOneof("prior"):
        case "mask_id":
            prompt["mask_id"] = message.mask_id
        case "mask":
            prompt["mask"] = {
                "size": (message.mask.height, message.mask.width),
                "counts": message.mask.counts,
            }
        case "logits":
            data = base64.b64encode(message.logits.data).decode()
            prompt["logits"] = {"size": (message.logits.height, message.logits.width), "data": data}
    return prompt


def segment_in(message: segmentation_pb2.SegmentRequest) -> SegmentIn:
    """Raises BadInput naming the field at fault."""
    return segment.validate_body(
        SegmentIn,
        {
            "image_id": message.image_id,
            "model": message.model or None,
            "prompts": [prompt_in(prompt) for prompt in message.prompts],
            "format": known(FORMAT, message.format, "format"),
            "select": known(SELECT, message.select, "select"),
            "multimask": message.multimask if message.HasField("multimask") else None,
        },
    )


def formatter(mask_format: MaskFormat) -> Callable[[Candidate], segmentation_pb2.Mask]:
    """How to make the message of one mask, without its id."""

    def render(found: Candidate) -> segmentation_pb2.Mask:
        x0, y0, x1, y1 = crop.bounding_box(found.crop)
        message = segmentation_pb2.Mask(
            score=found.score,
            box=segmentation_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
            area=crop.area(found.crop),
        )
        match mask_format:
            case MaskFormat.RLE:
                size = found.crop.size
                message.rle.CopyFrom(
                    segmentation_pb2.Rle(height=size.height, width=size.width, counts=rle.encode(found.crop))
                )
            case MaskFormat.POLYGON:
                message.polygon = orjson.dumps(polygon.to_geojson(found.crop)).decode()
            case MaskFormat.PNG:
                message.png = png.encode(found.crop)
            case MaskFormat.LOGITS:
                height, width = np.shape(found.logits)
                data = found.logits.astype("<f2").tobytes()
                message.logits.CopyFrom(segmentation_pb2.Logits(height=height, width=width, data=data))
        return message

    return render


def segment_out(answer: SegmentResult[segmentation_pb2.Mask]) -> segmentation_pb2.SegmentResponse:
    return segmentation_pb2.SegmentResponse(
        image_id=answer.image_id,
        model=answer.model,
        width=answer.size.width,
        height=answer.size.height,
        results=[
            segmentation_pb2.SegmentResult(masks=[with_id(found) for found in result])
            for result in answer.results
        ],
    )


def with_id(found: MaskResult[segmentation_pb2.Mask]) -> segmentation_pb2.Mask:
    found.rendered.mask_id = found.mask_id or ""
    return found.rendered


def priority_of(value: int) -> Priority:
    priority: Priority = known(PRIORITY, value, "priority")
    return priority


def region(message: encoder_pb2.Region) -> Region:
    return Region(message.x, message.y, message.width, message.height)
