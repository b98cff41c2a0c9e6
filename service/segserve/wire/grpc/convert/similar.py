"""Similar: more objects like the examples, between messages and what is used inside."""

from typing import Any

from segserve.types import ImageObjects
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.objects import object_to_message
from segserve.wire.grpc.convert.prompts import check_counts, prompt_from_message
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.objects import ResultFormat
from segserve.wire.schemas.similar import SimilarIn

FORMAT = dict(enumerate([ResultFormat.RLE, *ResultFormat]))


def similar_from_message(message: segmentation_pb2.SimilarRequest) -> SimilarIn:
    """Raises BadInput naming the field at fault."""
    check_counts(message.examples, "examples")
    body: dict[str, Any] = {
        "image_id": message.image_id,
        "model": message.model or None,
        "examples": [prompt_from_message(example) for example in message.examples],
        "example_image_id": message.example_image_id or None,
        "params": {field.name: value for field, value in message.params.ListFields()},
        "format": decode_enum(FORMAT, message.format, "format"),
        "tolerance": message.tolerance if message.HasField("tolerance") else None,
    }
    return validate_body(SimilarIn, body)


def similar_to_message(
    result: ImageObjects,
    content: tuple[bytes, str] | None,
    result_format: ResultFormat,
    tolerance: float | None,
) -> segmentation_pb2.SimilarResponse:
    """The answer. content: with its media type, where the format is none of messages. Blocks."""
    message = segmentation_pb2.SimilarResponse(
        image_id=result.image_id,
        model=result.model,
        width=result.size.width,
        height=result.size.height,
        hints=result.hints,
    )
    if content is not None:
        message.content, message.media_type = content
        return message
    message.objects.extend(
        segmentation_pb2.SimilarObject(
            object=object_to_message(item, result_format, tolerance),
            likeness=item.likeness,
            example=item.is_example,
        )
        for item in result.objects
    )
    return message
