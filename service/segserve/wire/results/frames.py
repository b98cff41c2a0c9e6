"""The results of video, volume and tracking jobs: COCO, zips of label maps, label volumes (NIfTI, NRRD, MetaImage,
DICOM SEG, TIFF), overlay video (MP4) and contact sheet."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing

import numpy as np
import orjson
from zipstream import ZIP_STORED, ZipStream

from segserve.app import Service
from segserve.errors import BadInput, DeletedInput, FileNotFound, TooLarge
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.masks import label_map
from segserve.rendering import label_volume
from segserve.rendering.contact_sheet import render_contact_sheet
from segserve.rendering.dicom_seg import SegSource
from segserve.rendering.mp4 import encode_mp4
from segserve.rendering.overlay import draw_objects
from segserve.rendering.result_index import ResultIndex
from segserve.rendering.source_file import SourceFile, StoredRequest
from segserve.types import UInt8
from segserve.wire.results.job_formats import FILE_TYPES, JobFormat
from segserve.wire.results.objects import coco_annotation

INDEX_BATCH_BYTES = 1 << 20  # lines are indexed in a thread, this many bytes at a time
FORMATS_WITHOUT_SOURCE = (JobFormat.COCO, JobFormat.PNG, JobFormat.TIFF)  # made of the lines alone


async def write_frame_results(service: Service, job: Job, job_format: JobFormat) -> AsyncGenerator[bytes]:
    """Write the results that are published by now. Raises as `job.write_job_results`, before the first part."""
    readers = service.files.readers.group()
    async with AsyncExitStack() as stack:
        lines = ResultIndex()
        stack.callback(lines.close)
        await index_lines(lines, await service.jobs.queue.read_results(job.tenant, job.job_id))
        stored = await service.jobs.queue.read_request(job)
        request = await asyncio.to_thread(StoredRequest.model_validate_json, stored)
        if job_format is JobFormat.COCO:
            content = write_coco(lines, job, request.names)
        elif job_format in FORMATS_WITHOUT_SOURCE:
            content = write_zip(lines, job, job_format)
        else:
            local_copy = service.files.local_copy(job.tenant, request.view.file_id)
            try:
                record, path = await stack.enter_async_context(local_copy)
            except FileNotFound:
                raise DeletedInput(job_format) from None
            source = SourceFile(request.view, record, path, readers)
            content = write_with_source(source, lines, job, job_format, request.names)
        parts = await stack.enter_async_context(aclosing(service.rendering_pool.stream(content)))
        stack.callback(readers.kill)  # first: a client that leaves does not wait for a frame
        async for part in parts:
            yield part


async def index_lines(lines: ResultIndex, published: AsyncIterator[bytes]) -> None:
    """Add all published lines to the index."""
    pending, size = list[bytes](), 0
    async for line in published:
        pending.append(line)
        size += len(line)
        if size > INDEX_BATCH_BYTES:
            await asyncio.to_thread(lines.add_lines, pending)
            pending, size = [], 0
    await asyncio.to_thread(lines.add_lines, pending)


def frame_name(job: Job, frame: int) -> str:
    """The name of a frame or slice, as annotation tools name the frames of a video."""
    return f"{'slice' if job.kind is JobKind.VOLUME else 'frame'}_{frame:06d}"


def write_coco(lines: ResultIndex, job: Job, names: Mapping[int, str]) -> Generator[bytes]:
    """One COCO data set (cocodataset.org, "Data format") with an image for each frame. The attributes of an annotation
    hold the object's id, as object_id and as track_id, which labeling tools read, and its name if it has one."""
    yield b'{"categories":[{"id":1,"name":"object"}],"images":['
    separator = b""
    for frame in lines.frame_numbers:
        size = {"width": lines.size.width, "height": lines.size.height}
        image = {"id": frame + 1, "file_name": f"{frame_name(job, frame)}.png", **size}
        yield separator + orjson.dumps(image)
        separator = b","
    yield b'],"annotations":['
    separator, count = b"", 0
    for frame in lines.frame_numbers:
        for entry in lines.get_objects(frame):
            if not entry["area"]:
                continue
            count += 1
            parent = {"parent": entry["parent"]} if "parent" in entry else {}
            number = entry["object_id"]
            named = {"name": names[number]} if number in names else {}
            attributes = {"object_id": number, "track_id": number, **named, **parent}
            annotation = coco_annotation(count, frame + 1, 1, entry)
            yield separator + orjson.dumps({**annotation, "attributes": attributes})
            separator = b","
    yield b"]}"


def write_zip(lines: ResultIndex, job: Job, job_format: JobFormat) -> Generator[bytes]:
    """A zip with a label map for each frame; its values are object_ids. Raises TooLarge where PNG cannot hold them."""
    if job_format is JobFormat.PNG and lines.dtype is not np.uint16:
        raise TooLarge(
            "There are object_ids that do not fit into the 16 bits of a PNG.",
            field="format",
            remedy="Ask for format 'tiff'.",
        )
    archive = ZipStream(compress_type=ZIP_STORED)
    encode = label_map.encode_png if job_format is JobFormat.PNG else label_map.encode_tiff
    for frame in lines.frame_numbers:
        labels = lines.build_label_map(frame, lines.size)
        archive.add(encode(labels), f"{frame_name(job, frame)}.{job_format}")
        yield from archive.all_files()
    yield from archive.finalize()


def write_with_source(
    source: SourceFile, lines: ResultIndex, job: Job, job_format: JobFormat, names: Mapping[int, str]
) -> Generator[bytes]:
    """Write a format that needs frames or geometry of the file. Raises BadInput, TooLarge, MissingDependency."""
    match job_format:
        case JobFormat.MP4:
            yield from write_mp4(source, lines, job)
        case JobFormat.SHEET:
            with source.open_frames() as frames:
                yield from render_contact_sheet(frames, lines, source.pixel_size)
        case JobFormat.TIFF_STACK if job.kind is not JobKind.VOLUME:
            record = source.record
            yield from label_volume.write_frames_tiff(lines, record.count, record.size, record.fps)
        case JobFormat.TIFF_STACK:
            yield from label_volume.write_volume_tiff(
                lines, source.view.axis, source.read_geometry(), source.tiff_unit
            )
        case JobFormat.DICOM_SEG:
            series, geometry = source.read_source_series(), source.read_geometry()
            seg = SegSource(series, geometry, job.model, job.job_id, names)
            yield from label_volume.write_label_seg(lines, source.view.axis, seg)
        case _:
            suffix = FILE_TYPES[job_format].suffix
            yield from label_volume.write_label_volume(
                lines, source.view.axis, source.read_geometry(), suffix
            )


def write_mp4(source: SourceFile, lines: ResultIndex, job: Job) -> Iterator[bytes]:
    """The frames with the objects drawn on them. It begins with the first frame, so that times are the source's. While
    the job runs it ends with the last frame that is done. Raises BadInput where none is."""
    if job.state is not JobState.SUCCEEDED and not lines.frame_numbers:
        raise BadInput(
            "No frame is done yet.", field="format", remedy="Ask again when the job's progress is above 0."
        )
    with source.open_frames() as frames:
        done = job.state is JobState.SUCCEEDED
        count = frames.count if done else min(frames.count, lines.frame_numbers[-1] + 1)

        def draw_frames() -> Iterator[UInt8]:
            for frame in range(count):
                yield draw_objects(frames.read(frame), lines.get_objects(frame))

        yield from encode_mp4(draw_frames(), source.record.fps)
