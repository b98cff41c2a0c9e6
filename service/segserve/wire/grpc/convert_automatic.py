"""Between gRPC's messages for whole images and what is used inside."""

from typing import Any

import orjson

from segserve.masks import crop, polygon, rle
from segserve.types import ImageObjects, SegmentedObject
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert import known
from segserve.wire.operations.segment import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.common import ResultFormat

FORMAT = dict(enumerate([ResultFormat.PNG, *ResultFormat]))
AS_OBJECTS = {ResultFormat.RLE, ResultFormat.POLYGON}


def automatic_in(message: segmentation_pb2.AutomaticRequest) -> AutomaticIn:
    """Raises BadInput naming the field at fault."""
    method = message.WhichOneof("method")
    asked: dict[str, Any] = {
        "image_id": message.image_id,
        "model": message.model or None,
        "format": known(FORMAT, message.format, "format"),
        "method": method,
    }
    if method is not None:
        asked["params"] = {field.name: value for field, value in getattr(message, method).ListFields()}
    return validate_body(AutomaticIn, asked)


def found_out(found: ImageObjects) -> segmentation_pb2.AutomaticResponse:
    """The answer, still without objects or content."""
    return segmentation_pb2.AutomaticResponse(
        image_id=found.image_id, model=found.model, width=found.size.width, height=found.size.height
    )


def objects_out(found: ImageObjects, result_format: ResultFormat) -> list[segmentation_pb2.FoundObject]:
    return [one(each, result_format) for each in found.objects]


def one(found: SegmentedObject, result_format: ResultFormat) -> segmentation_pb2.FoundObject:
    x0, y0, x1, y1 = crop.bounding_box(found.crop)
    message = segmentation_pb2.FoundObject(
        box=segmentation_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=crop.area(found.crop),
        score=found.score,
        category=found.category or "",
    )
    if result_format is ResultFormat.RLE:
        size = found.crop.size
        counts = rle.encode(found.crop)
        message.rle.CopyFrom(segmentation_pb2.Rle(height=size.height, width=size.width, counts=counts))
    else:
        message.polygon = orjson.dumps(polygon.to_geojson(found.crop)).decode()
    return message
