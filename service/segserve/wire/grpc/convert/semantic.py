"""Semantic: a class for every pixel, between messages and what is used inside."""

from typing import Any

from segserve.errors import BadInput
from segserve.semantic.tta import Flips
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.semantic import SemanticAnswer
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn

TTA_FLIPS = dict(enumerate([Flips.NONE, *Flips]))
FORMAT = dict(enumerate([SemanticFormat.PNG, *SemanticFormat]))


def semantic_from_message(message: segmentation_pb2.SemanticRequest) -> SemanticIn:
    """Raises BadInput naming the field at fault."""
    return validate_body(
        SemanticIn,
        {
            "image_id": message.image_id,
            "model": message.model or None,
            "tile": (message.tile.height, message.tile.width) if message.HasField("tile") else None,
            "overlap": message.overlap if message.HasField("overlap") else None,
            "threshold": threshold_from_message(message),
            "tta_flips": decode_enum(TTA_FLIPS, message.tta_flips, "tta_flips"),
            "postprocess": postprocess_from_message(message.postprocess),
            "format": decode_enum(FORMAT, message.format, "format"),
            "tolerance": message.tolerance if message.HasField("tolerance") else None,
        },
    )


def postprocess_from_message(message: segmentation_pb2.Postprocess) -> dict[str, Any]:
    """The fields that are set, as JSON of `PostprocessIn`."""
    steps = {field.name: value for field, value in message.ListFields()}
    if "crf" in steps:
        steps["crf"] = {field.name: value for field, value in message.crf.ListFields()}
    return steps


def threshold_from_message(message: segmentation_pb2.SemanticRequest) -> float | dict[str, float] | None:
    """One threshold for all classes, thresholds by class name, or None. Raises BadInput where both are set."""
    if not message.thresholds:
        return message.threshold if message.HasField("threshold") else None
    if message.HasField("threshold"):
        raise BadInput(
            "Both threshold and thresholds are set.", field="thresholds", remedy="Send one of the two."
        )
    return dict(message.thresholds)


def semantic_to_message(answer: SemanticAnswer) -> segmentation_pb2.SemanticResponse:
    class_map = answer.class_map
    return segmentation_pb2.SemanticResponse(
        image_id=class_map.image_id,
        model=class_map.model,
        width=class_map.size.width,
        height=class_map.size.height,
        classes=[
            segmentation_pb2.ClassArea(value=c.value, name=c.name, area=c.area, fraction=c.fraction)
            for c in class_map.classes
        ],
        content=answer.content,
        media_type=answer.media_type,
    )
