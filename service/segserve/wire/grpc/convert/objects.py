"""Objects of whole images as messages."""

from typing import Any

import orjson

from segserve.masks import crop, polygon, rle
from segserve.types import Crop, SegmentedObject
from segserve.v1 import segmentation_pb2
from segserve.wire.schemas.objects import ResultFormat

# Objects are answered as messages in these formats, and as the bytes that REST answers in all others.
MESSAGE_FORMATS = {ResultFormat.RLE, ResultFormat.POLYGON}


def object_to_message(
    item: SegmentedObject, result_format: ResultFormat, tolerance: float | None
) -> segmentation_pb2.SegmentedObject:
    """The message of one object. result_format: one of MESSAGE_FORMATS. tolerance: of polygons, in pixels."""
    message = segmentation_pb2.SegmentedObject(
        score=item.score, category=item.category or "", **area_and_box(item.crop)
    )
    if (box := item.box) is not None:
        message.model_box.CopyFrom(segmentation_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1))
    if result_format is ResultFormat.RLE:
        message.rle.CopyFrom(crop_to_rle(item.crop))
    else:
        message.polygon = orjson.dumps(polygon.to_geojson(item.crop, tolerance or 0)).decode()
    return message


def area_and_box(mask: Crop) -> dict[str, Any]:
    """The fields `area` and `box` of a mask's message."""
    x0, y0, x1, y1 = crop.bounding_box(mask)
    return {"area": crop.area(mask), "box": segmentation_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1)}


def crop_to_rle(mask: Crop) -> segmentation_pb2.Rle:
    """A mask as COCO's compressed run lengths."""
    return segmentation_pb2.Rle(height=mask.size.height, width=mask.size.width, counts=rle.encode(mask))
