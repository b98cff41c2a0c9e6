"""The results of a batch job as NDJSON, COCO, or a zip of label maps, made of the kept run lengths as they are read."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import orjson
from zipstream import ZIP_STORED, ZipStream

from segserve.masks import label_map, rle
from segserve.masks.label_map import MAX_UINT16_ID
from segserve.types import Size
from segserve.wire.results.job_formats import JobFormat
from segserve.wire.results.objects import DEFAULT_CATEGORY, coco_annotation

Line = dict[str, Any]  # the result of one image
# Opens the published lines from the first on. COCO reads them twice.
OpenLines = Callable[[], Awaitable[AsyncIterator[bytes]]]

SUFFIX = re.compile(r"\.[A-Za-z]{3,4}$")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_NAME_LENGTH = 80  # of a file in a zip
SHORT_ID_LENGTH = 16  # of an image_id as the name of a file
ERRORS_FILE = "errors.ndjson"  # the lines of failed images, in a zip


def write_batch_results(read: OpenLines, job_format: JobFormat) -> AsyncIterator[bytes]:
    """Write the results of a batch. job_format: one of COMMON_FORMATS."""
    match job_format:
        case JobFormat.NDJSON:
            return write_ndjson(read)
        case JobFormat.COCO:
            return write_coco(read)
        case _:
            return write_zip(read, job_format)


async def write_ndjson(read: OpenLines) -> AsyncIterator[bytes]:
    """The lines as they were published."""
    async for line in await read():
        yield line.rstrip(b"\n") + b"\n"


async def write_coco(read: OpenLines) -> AsyncIterator[bytes]:
    """One COCO data set (cocodataset.org, "Data format") of all images.

    Failed images have no annotations and no size, but `failed` and `error`: readers of COCO pass over keys that they do
    not know, and an image without annotations would look like one without objects.
    """
    category_ids: dict[str, int] = {}
    yield b'{"images":['
    separator, image_count = b"", 0
    async for line in parse_lines(read):
        image_count += 1
        for item in iterate_objects(line):
            category_ids.setdefault(item.get("class") or DEFAULT_CATEGORY, len(category_ids) + 1)
        image = {
            "id": line["index"] + 1,
            "file_name": line.get("name", line["image_id"]),
            "width": line.get("width"),
            "height": line.get("height"),
        }
        if "error" in line:
            image |= {"failed": True, "error": line["error"]}
        yield separator + orjson.dumps(image)
        separator = b","
    categories = [{"id": number, "name": name} for name, number in category_ids.items()]
    yield b'],"categories":' + orjson.dumps(categories) + b',"annotations":['
    separator, annotation_count = b"", 0
    async for line in parse_lines(read):
        if not image_count:
            break  # the lines from here on were published after the first reading
        image_count -= 1
        for item in iterate_objects(line):
            annotation_count += 1
            category_id = category_ids[item.get("class") or DEFAULT_CATEGORY]
            annotation = coco_annotation(annotation_count, line["index"] + 1, category_id, item)
            yield separator + orjson.dumps(annotation)
            separator = b","
    yield b"]}"


async def write_zip(read: OpenLines, job_format: JobFormat) -> AsyncIterator[bytes]:
    """A zip with a label or class map for each image. Files are named by position and name or id of the image."""
    archive, errors = ZipStream(compress_type=ZIP_STORED), list[bytes]()
    encode = label_map.encode_png if job_format is JobFormat.PNG else label_map.encode_tiff
    async for line in parse_lines(read):
        if "error" in line:
            errors.append(orjson.dumps(line) + b"\n")
        if "width" not in line:  # the image failed, or the operation answers no objects
            continue
        content = await asyncio.to_thread(encode_line, line, encode)
        archive.add(content, f"{line['index']:06d}-{safe_name(line)}.{job_format}")
        for part in archive.all_files():
            yield part
    if errors:
        archive.add(b"".join(errors), ERRORS_FILE)
    for part in archive.finalize():
        yield part


async def parse_lines(read: OpenLines) -> AsyncIterator[Line]:
    """The published lines, parsed."""
    async for line in await read():
        yield orjson.loads(line)


def iterate_objects(line: Line) -> Iterator[Line]:
    """The objects of an image; for the operation segment, all masks of all prompts."""
    if "objects" in line:
        yield from line["objects"]
    for result in line.get("results", ()):
        yield from result["masks"]


def safe_name(line: Line) -> str:
    """The name of an image as the name of a file, without a path and without its suffix."""
    name = SUFFIX.sub("", line["name"]) if "name" in line else line["image_id"][:SHORT_ID_LENGTH]
    return UNSAFE.sub("_", name)[-MAX_NAME_LENGTH:]


def encode_line(line: Line, encode: Callable[[label_map.Labels], bytes]) -> bytes:
    """The map of an image as a file."""
    return encode(draw_label_map(line))


def draw_label_map(line: Line) -> label_map.Labels:
    """The map of an image [H, W]: values of classes, or positions of objects from 1 with smaller objects on top."""
    size = Size(line["height"], line["width"])
    if "classes" in line:
        return draw_class_map(line, size)
    runs = [
        (number, item["mask"]["counts"], item["area"]) for number, item in enumerate(iterate_objects(line), 1)
    ]
    dtype = np.uint16 if len(runs) <= MAX_UINT16_ID else np.uint32
    return label_map.from_rle(runs, size, dtype)


def draw_class_map(line: Line, size: Size) -> label_map.Labels:
    """The class map of an image, [H, W]."""
    labels = np.zeros((size.height, size.width), np.uint8)
    values = {item["class"]: item["value"] for item in line["classes"]}
    for item in line["objects"]:
        labels[rle.decode(item["mask"]["counts"], size)] = values[item["class"]]
    return labels
