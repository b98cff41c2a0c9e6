"""All objects of an image in the formats of the whole-image routes: label map, overlay, COCO, JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import orjson

from segserve.masks import crop, label_map, polygon, rle
from segserve.types import Crop, ImageObjects, SegmentedObject, UInt8
from segserve.wire.schemas.objects import ResultFormat

PNG, TIFF, NPY, JSON = "image/png", "image/tiff", "application/x-npy", "application/json"  # media types
MAPS = {ResultFormat.PNG, ResultFormat.TIFF, ResultFormat.NPY, ResultFormat.OVERLAY}
DEFAULT_CATEGORY = "object"  # in COCO, for objects without a class

Json = dict[str, Any]


def write_objects(
    result: ImageObjects, result_format: ResultFormat, image: UInt8 | None, tolerance: float | None = None
) -> tuple[bytes, str]:
    """Write the objects of an image as (content, media type). Blocks: call it in a thread.

    image [H, W, 3]: what an overlay is drawn on; other formats do not need it.
    tolerance: of polygons, in pixels.

    Raises TooLarge where the format cannot hold the objects.
    """
    if result_format in MAPS:
        labels = label_map.from_objects(result)
        return write_map(labels, result_format, image)
    if result_format is ResultFormat.COCO:
        return orjson.dumps(objects_to_coco(result)), JSON
    return orjson.dumps(objects_to_json(result, result_format, tolerance)), JSON


def write_map(
    labels: label_map.Labels, result_format: ResultFormat, image: UInt8 | None
) -> tuple[bytes, str]:
    """Write a label or class map [H, W] as (content, media type). As `write_objects`."""
    match result_format:
        case ResultFormat.PNG:
            return label_map.encode_png(labels), PNG
        case ResultFormat.TIFF:
            return label_map.encode_tiff(labels), TIFF
        case ResultFormat.NPY:
            return label_map.encode_npy(labels), NPY
        case ResultFormat.OVERLAY:
            assert image is not None
            return label_map.encode_overlay(image, labels), PNG
        case _:
            raise AssertionError(f"{result_format} is no format of a map")


def objects_to_json(
    result: ImageObjects, result_format: ResultFormat, tolerance: float | None = None
) -> Json:
    """The JSON of `ObjectsOut`. result_format: RLE or POLYGON. tolerance: of polygons, in pixels."""
    return {
        "image_id": result.image_id,
        "model": result.model,
        "width": result.size.width,
        "height": result.size.height,
        **({} if result.scale is None else {"scale": asdict(result.scale)}),
        "objects": [object_to_json(item, result_format, tolerance) for item in result.objects],
        **hints_to_json(result.hints),
    }


def hints_to_json(hints: Sequence[str]) -> Json:
    """The member `hints` of an answer; none where there are no hints."""
    return {"hints": list(hints)} if hints else {}


def object_to_json(
    item: SegmentedObject, result_format: ResultFormat, tolerance: float | None = None
) -> Json:
    """The JSON of `ObjectOut`. result_format: RLE or POLYGON. tolerance: of polygons, in pixels."""
    as_rle = result_format is ResultFormat.RLE
    model_box = {} if item.box is None else {"model_box": list(astuple(item.box))}
    likeness = {} if item.likeness is None else {"likeness": item.likeness, "example": item.is_example}
    return {
        "mask": crop_to_rle(item.crop) if as_rle else polygon.to_geojson(item.crop, tolerance or 0),
        "box": list(crop.bounding_box(item.crop)),
        "area": crop.area(item.crop),
        "score": item.score,
        "class": item.category,
        **model_box,
        **likeness,
    }


def crop_to_rle(mask: Crop) -> Json:
    """A mask as COCO's compressed run lengths."""
    return {"size": [mask.size.height, mask.size.width], "counts": rle.encode(mask)}


def objects_to_coco(result: ImageObjects) -> Json:
    """A COCO data set of one image (cocodataset.org, "Data format"): boxes are x, y, width, height."""
    categories = [item.category or DEFAULT_CATEGORY for item in result.objects]
    ids = {name: index for index, name in enumerate(dict.fromkeys(categories or [DEFAULT_CATEGORY]), 1)}
    annotations = [
        coco_annotation(number, 1, ids[category], object_to_json(item, ResultFormat.RLE))
        for number, (item, category) in enumerate(zip(result.objects, categories, strict=True), 1)
    ]
    size = {"width": result.size.width, "height": result.size.height}
    return {
        "images": [{"id": 1, "file_name": result.image_id, **size}],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": annotations,
    }


def coco_annotation(annotation_id: int, image_id: int, category_id: int, item: Mapping[str, Any]) -> Json:
    """The COCO annotation of one object or mask. item: its JSON, with the mask as run lengths."""
    x0, y0, x1, y1 = item["box"]
    annotation = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": item["mask"],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": item["area"],
        "iscrowd": 0,
    }
    return annotation if item.get("score") is None else {**annotation, "score": item["score"]}
