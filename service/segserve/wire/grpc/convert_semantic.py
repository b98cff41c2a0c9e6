"""Between gRPC's messages of the semantic call and REST's schema of it."""

from typing import Any

from segserve.errors import BadInput
from segserve.semantic.tta import Flips
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert import known
from segserve.wire.operations.segment import validate_body
from segserve.wire.operations.semantic import SemanticAnswer
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn

FLIPS = dict(enumerate([Flips.NONE, *Flips]))
FORMAT = dict(enumerate([SemanticFormat.PNG, *SemanticFormat]))


def semantic_in(message: segmentation_pb2.SemanticRequest) -> SemanticIn:
    """Raises BadInput naming the field at fault."""
    return validate_body(
        SemanticIn,
        {
            "image_id": message.image_id,
            "model": message.model or None,
            "tile": (message.tile.height, message.tile.width) if message.HasField("tile") else None,
            "overlap": message.overlap if message.HasField("overlap") else None,
            "threshold": threshold(message),
            "tta_flips": known(FLIPS, message.tta_flips, "tta_flips"),
            "postprocess": postprocess(message.postprocess),
            "format": known(FORMAT, message.format, "format"),
        },
    )


def postprocess(message: segmentation_pb2.Postprocess) -> dict[str, Any]:
    steps = {field.name: value for field, value in message.ListFields()}
    if "crf" in steps:
        steps["crf"] = {field.name: value for field, value in message.crf.ListFields()}
    return steps


def threshold(message: segmentation_pb2.SemanticRequest) -> Any:
    if not message.thresholds:
        return message.threshold if message.HasField("threshold") else None
    if message.HasField("threshold"):
        raise BadInput(
            "Both threshold and thresholds are set.", field="thresholds", remedy="Send one of the two."
        )
    return dict(message.thresholds)


def semantic_out(answer: SemanticAnswer) -> segmentation_pb2.SemanticResponse:
    found = answer.found
    return segmentation_pb2.SemanticResponse(
        image_id=found.image_id,
        model=found.model,
        width=found.size.width,
        height=found.size.height,
        classes=[
            segmentation_pb2.ClassArea(value=c.value, name=c.name, area=c.area, fraction=c.fraction)
            for c in found.classes
        ],
        content=answer.content,
        media_type=answer.media_type,
    )
