"""Requests to encoder workers, between messages and what is used inside."""

from segserve.encode.encode_request import EncodeRequest, ImageBytes
from segserve.types import Priority, Region, Size
from segserve.v1 import encoder_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.images import read_options_from_message, read_options_to_message

PRIORITY = dict(enumerate([Priority.INTERACTIVE, Priority.INTERACTIVE, Priority.BATCH]))


def encode_from_message(message: encoder_pb2.EncodeRequest) -> EncodeRequest:
    """Raises BadInput naming the field at fault."""
    image = region = None
    if message.HasField("image"):
        image = ImageBytes(message.image.data, read_options_from_message(message.image.options))
    if message.HasField("region"):
        part = message.region
        region = Region(part.x, part.y, part.width, part.height)
    return EncodeRequest(
        message.tenant,
        message.image_id,
        message.model,
        message.digest,
        decode_enum(PRIORITY, message.priority, "priority"),
        image,
        region,
        message.client or None,
        Size(message.shown_height, message.shown_width)
        if message.shown_height and message.shown_width
        else None,
    )


def encode_to_message(request: EncodeRequest) -> encoder_pb2.EncodeRequest:
    message = encoder_pb2.EncodeRequest(
        tenant=request.tenant,
        image_id=request.image_id,
        model=request.model,
        digest=request.digest,
        priority=f"PRIORITY_{request.priority.name}",
        client=request.source or "",
    )
    if request.image is not None:
        message.image.data = request.image.data
        message.image.options.CopyFrom(read_options_to_message(request.image.options))
    if (region := request.region) is not None:
        message.region.x, message.region.y = region.x, region.y
        message.region.width, message.region.height = region.width, region.height
    if request.shown is not None:
        message.shown_width, message.shown_height = request.shown.width, request.shown.height
    return message
