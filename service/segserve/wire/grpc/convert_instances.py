"""Between gRPC's messages of the instances call and what is used inside."""

from typing import Any

import orjson

from segserve.masks import crop, polygon, rle
from segserve.types import ImageObjects, SegmentedObject, UInt8
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert import known
from segserve.wire.operations.segment import validate_body
from segserve.wire.results import objects
from segserve.wire.schemas.common import ResultFormat
from segserve.wire.schemas.instances import InstancesIn

FORMAT = dict(enumerate([ResultFormat.RLE, *ResultFormat]))
AS_OBJECTS = {ResultFormat.RLE, ResultFormat.POLYGON}
OPTIONAL = ("score_threshold", "nms_threshold", "mask_threshold", "max_objects")


def instances_in(message: segmentation_pb2.InstancesRequest) -> InstancesIn:
    """Raises BadInput naming the field at fault."""
    asked: dict[str, Any] = {
        "image_id": message.image_id,
        "model": message.model or None,
        "classes": list(message.classes) or None,
        "format": known(FORMAT, message.format, "format"),
    }
    given = {name: getattr(message, name) for name in OPTIONAL if message.HasField(name)}
    return validate_body(InstancesIn, {**asked, **given})


def instances_out(
    found: ImageObjects, asked: ResultFormat, image: UInt8
) -> segmentation_pb2.InstancesResponse:
    answer = segmentation_pb2.InstancesResponse(
        image_id=found.image_id, model=found.model, width=found.size.width, height=found.size.height
    )
    if asked in AS_OBJECTS:
        answer.objects.extend(one(each, asked) for each in found.objects)
    else:
        answer.content, answer.media_type = objects.write_objects(found, asked, image)
    return answer


def one(found: SegmentedObject, asked: ResultFormat) -> segmentation_pb2.FoundObject:
    x0, y0, x1, y1 = crop.bounding_box(found.crop)
    message = segmentation_pb2.FoundObject(
        box=segmentation_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=crop.area(found.crop),
        score=found.score,
        category=found.category or "",
    )
    if (drawn := found.box) is not None:
        message.model_box.CopyFrom(segmentation_pb2.Box(x0=drawn.x0, y0=drawn.y0, x1=drawn.x1, y1=drawn.y1))
    if asked is ResultFormat.RLE:
        size = found.crop.size
        counts = rle.encode(found.crop)
        message.rle.CopyFrom(segmentation_pb2.Rle(height=size.height, width=size.width, counts=counts))
    else:
        message.polygon = orjson.dumps(polygon.to_geojson(found.crop)).decode()
    return message
