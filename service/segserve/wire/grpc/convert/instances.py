"""Instances: objects of known classes, between messages and what is used inside."""

from typing import Any

from segserve.types import ImageObjects, UInt8
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.objects import MESSAGE_FORMATS, object_to_message
from segserve.wire.operations.common import validate_body
from segserve.wire.results.objects import write_objects
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.objects import ResultFormat

FORMAT = dict(enumerate([ResultFormat.RLE, *ResultFormat]))
OPTIONAL_FIELDS = ("score_threshold", "nms_threshold", "mask_threshold", "max_objects", "tolerance")


def instances_from_message(message: segmentation_pb2.InstancesRequest) -> InstancesIn:
    """Raises BadInput naming the field at fault."""
    body: dict[str, Any] = {
        "image_id": message.image_id,
        "model": message.model or None,
        "classes": list(message.classes) or None,
        "format": decode_enum(FORMAT, message.format, "format"),
    }
    options = {name: getattr(message, name) for name in OPTIONAL_FIELDS if message.HasField(name)}
    return validate_body(InstancesIn, {**body, **options})


def instances_to_message(
    result: ImageObjects, result_format: ResultFormat, image: UInt8, tolerance: float | None
) -> segmentation_pb2.InstancesResponse:
    """The answer. image [H, W, 3]: what an overlay is drawn on. Blocks."""
    answer = segmentation_pb2.InstancesResponse(
        image_id=result.image_id, model=result.model, width=result.size.width, height=result.size.height
    )
    if result_format in MESSAGE_FORMATS:
        answer.objects.extend(object_to_message(item, result_format, tolerance) for item in result.objects)
    else:
        answer.content, answer.media_type = write_objects(result, result_format, image)
    return answer
