"""Automatic: all objects of an image, between messages and what is used inside."""

from typing import Any

from segserve.models.manifest import NmsKeeps
from segserve.types import ImageObjects
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.objects import object_to_message
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.objects import ResultFormat

FORMAT = dict(enumerate([ResultFormat.PNG, *ResultFormat]))
NMS_KEEPS = dict(enumerate(NmsKeeps, 1))


def automatic_from_message(message: segmentation_pb2.AutomaticRequest) -> AutomaticIn:
    """Without a method it is the model's own. Raises BadInput naming the field at fault."""
    method = message.WhichOneof("method")
    body: dict[str, Any] = {
        "image_id": message.image_id,
        "model": message.model or None,
        "format": decode_enum(FORMAT, message.format, "format"),
        "method": method,
        "raw": message.raw,
        "object_size": message.object_size or None,
        "scale": message.scale or None,
        "tolerance": message.tolerance if message.HasField("tolerance") else None,
    }
    if method is not None:
        body["params"] = {field.name: value for field, value in getattr(message, method).ListFields()}
        if "nms_keeps" in body["params"]:
            body["params"]["nms_keeps"] = decode_enum(NMS_KEEPS, message.amg.nms_keeps, "params.nms_keeps")
    return validate_body(AutomaticIn, body)


def automatic_to_message(
    result: ImageObjects,
    content: tuple[bytes, str] | None,
    result_format: ResultFormat,
    tolerance: float | None,
) -> segmentation_pb2.AutomaticResponse:
    """The answer. content: with its media type, where the format is none of messages. Blocks."""
    message = segmentation_pb2.AutomaticResponse(
        image_id=result.image_id,
        model=result.model,
        width=result.size.width,
        height=result.size.height,
        hints=result.hints,
    )
    if result.scale is not None:
        message.scale.scale, message.scale.reason = result.scale.scale, result.scale.reason
        message.scale.object_size = result.scale.object_size or 0
    if content is None:
        message.objects.extend(object_to_message(item, result_format, tolerance) for item in result.objects)
    else:
        message.content, message.media_type = content
    return message
