"""What was found on whole images, as the formats that clients ask for."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import orjson

from segserve.masks import crop, label_map, polygon, rle
from segserve.types import ImageObjects, SegmentedObject, UInt8
from segserve.wire.schemas.common import ResultFormat

PNG, TIFF, NPY, JSON = "image/png", "image/tiff", "application/x-npy", "application/json"
MAPS = {ResultFormat.PNG, ResultFormat.TIFF, ResultFormat.NPY, ResultFormat.OVERLAY}


def write_objects(found: ImageObjects, result_format: ResultFormat, image: UInt8 | None) -> tuple[bytes, str]:
    """(the answer's bytes, their media type). image [H, W, 3]: what an overlay is drawn on, needed for that
    alone. Blocks: call it in a thread. Raises TooLarge where the format cannot hold what was found."""
    if result_format in MAPS:
        return write_map(
            label_map.from_crops([o.crop for o in found.objects], found.size), result_format, image
        )
    content = (
        objects_to_coco(found)
        if result_format is ResultFormat.COCO
        else objects_to_json(found, result_format)
    )
    return orjson.dumps(content), JSON


def write_map(
    values: label_map.Labels, result_format: ResultFormat, image: UInt8 | None
) -> tuple[bytes, str]:
    """A label or class map [H, W] as a file; as `write_objects`."""
    if result_format is ResultFormat.OVERLAY:
        assert image is not None
        return label_map.encode_overlay(image, values), PNG
    encode, media_type = {
        ResultFormat.PNG: (label_map.encode_png, PNG),
        ResultFormat.TIFF: (label_map.encode_tiff, TIFF),
        ResultFormat.NPY: (label_map.encode_npy, NPY),
    }[result_format]
    return encode(values), media_type


def objects_to_json(found: ImageObjects, result_format: ResultFormat) -> dict[str, Any]:
    """The JSON of `FoundOut`."""
    return {
        "image_id": found.image_id,
        "model": found.model,
        "width": found.size.width,
        "height": found.size.height,
        "objects": [object_to_json(each, result_format) for each in found.objects],
    }


def object_to_json(found: SegmentedObject, result_format: ResultFormat) -> dict[str, Any]:
    as_rle = result_format is ResultFormat.RLE
    drawn = {} if found.box is None else {"model_box": list(astuple(found.box))}
    return {
        "mask": mask_to_rle(found) if as_rle else polygon.to_geojson(found.crop),
        "box": list(crop.bounding_box(found.crop)),
        "area": crop.area(found.crop),
        "score": found.score,
        "class": found.category,
        **drawn,
    }


def mask_to_rle(found: SegmentedObject) -> dict[str, Any]:
    size = found.crop.size
    return {"size": [size.height, size.width], "counts": rle.encode(found.crop)}


def objects_to_coco(found: ImageObjects) -> dict[str, Any]:
    """A COCO data set of one image (cocodataset.org, "Data format"): boxes are x, y, width, height."""
    names = list(dict.fromkeys(each.category or "object" for each in found.objects)) or ["object"]
    ids = {name: index + 1 for index, name in enumerate(names)}
    annotations = [
        coco_annotation(index + 1, 1, ids[each.category or "object"], object_to_json(each, ResultFormat.RLE))
        for index, each in enumerate(found.objects)
    ]
    image = {"id": 1, "file_name": found.image_id, "width": found.size.width, "height": found.size.height}
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": [image], "categories": categories, "annotations": annotations}


def coco_annotation(number: int, image_id: int, category: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Of one object or mask, as JSON with run lengths."""
    x0, y0, x1, y1 = found["box"]
    told = {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": found["mask"],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": found["area"],
        "iscrowd": 0,
    }
    return told if found.get("score") is None else {**told, "score": found["score"]}
