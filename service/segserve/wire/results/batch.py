"""The results of a batch in the formats that people take away: all made of the kept run lengths, as they are read."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import orjson
from zipstream import ZIP_STORED, ZipStream

from segserve.masks import label_map as labels
from segserve.masks import rle
from segserve.masks.label_map import MAX_UINT16_ID
from segserve.types import Size
from segserve.wire.results.job_formats import JobFormat
from segserve.wire.results.objects import coco_annotation

Line = dict[str, Any]
# Begins to read the published lines from the first on.
Read = Callable[[], Awaitable[AsyncIterator[bytes]]]

SUFFIX = re.compile(r"\.[A-Za-z]{3,4}$")
UNSAFE, NAME_LENGTH = re.compile(r"[^A-Za-z0-9._-]+"), 80
ERRORS = "errors.ndjson"  # in archives: what failed, as the NDJSON results say it


def objects(line: Line) -> Iterator[Line]:
    """What was found on the image; of prompts, every mask they were answered with."""
    if "objects" in line:
        yield from line["objects"]
    for result in line.get("results", ()):
        yield from result["masks"]


def write_batch_results(read: Read, asked: JobFormat) -> AsyncIterator[bytes]:
    """asked: one that batches have."""
    match asked:
        case JobFormat.NDJSON:
            return write_ndjson(read)
        case JobFormat.COCO:
            return write_coco(read)
        case _:
            return write_zip(read, asked)


async def write_ndjson(read: Read) -> AsyncIterator[bytes]:
    async for line in await read():
        yield line.rstrip(b"\n") + b"\n"


async def write_coco(read: Read) -> AsyncIterator[bytes]:
    """One COCO data set (cocodataset.org, "Data format") of all images; those that failed have no annotations."""
    names: dict[str, int] = {}
    yield b'{"images":['
    between, images = b"", 0
    async for line in parse_lines(read):
        images += 1
        for each in objects(line):
            names.setdefault(each.get("class") or "object", len(names) + 1)
        image = {
            "id": line["index"] + 1,
            "file_name": line.get("name", line["image_id"]),
            "width": line.get("width"),
            "height": line.get("height"),
        }
        yield between + orjson.dumps(image)
        between = b","
    categories = [{"id": number, "name": name} for name, number in names.items()]
    yield b'],"categories":' + orjson.dumps(categories) + b',"annotations":['
    between, count = b"", 0
    async for line in parse_lines(read):
        if not images:
            break  # what comes now was published after the first reading
        images -= 1
        for each in objects(line):
            count += 1
            category = names[each.get("class") or "object"]
            yield between + orjson.dumps(coco_annotation(count, line["index"] + 1, category, each))
            between = b","
    yield b"]}"


async def write_zip(read: Read, asked: JobFormat) -> AsyncIterator[bytes]:
    """A map an image, named by its place and its name or id."""
    archive, errors = ZipStream(compress_type=ZIP_STORED), list[bytes]()
    encode = labels.encode_png if asked is JobFormat.PNG else labels.encode_tiff
    async for line in parse_lines(read):
        if "error" in line:
            errors.append(orjson.dumps(line) + b"\n")
        if "width" not in line:  # it failed, or its operation finds nothing
            continue
        content = await asyncio.to_thread(compose, line, encode)
        archive.add(content, f"{line['index']:06d}-{safe(line)}.{asked}")
        for part in archive.all_files():
            yield part
    if errors:
        archive.add(b"".join(errors), ERRORS)
    for part in archive.finalize():
        yield part


def safe(line: Line) -> str:
    """A name that is no path, whatever it was called."""
    name = SUFFIX.sub("", line["name"]) if "name" in line else line["image_id"][:16]
    return UNSAFE.sub("_", name)[-NAME_LENGTH:]


def compose(line: Line, encode: Callable[[labels.Labels], bytes]) -> bytes:
    return encode(label_map(line))


def label_map(line: Line) -> labels.Labels:
    """[H, W]: of classes, their values; of objects, their positions from 1, the smaller one on top."""
    size = Size(line["height"], line["width"])
    if "classes" in line:
        values = np.zeros((size.height, size.width), np.uint8)
        number_of = {each["class"]: each["value"] for each in line["classes"]}
        for each in line["objects"]:
            values[rle.decode(each["mask"]["counts"], size)] = number_of[each["class"]]
        return values
    found = [(number, each["mask"]["counts"], each["area"]) for number, each in enumerate(objects(line), 1)]
    return labels.from_rle(found, size, np.uint16 if len(found) <= MAX_UINT16_ID else np.uint32)


async def parse_lines(read: Read) -> AsyncIterator[Line]:
    async for line in await read():
        yield orjson.loads(line)
