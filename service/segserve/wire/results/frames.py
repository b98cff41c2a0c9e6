"""The results of jobs on frames or slices: data sets, label maps, and what is drawn or laid into volumes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack, aclosing

import numpy as np
import orjson
from zipstream import ZIP_STORED, ZipStream

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.masks import label_map
from segserve.rendering import label_volume
from segserve.rendering.contact_sheet import render_contact_sheet
from segserve.rendering.mp4 import encode_mp4
from segserve.rendering.overlay import draw_overlay
from segserve.rendering.result_index import ResultIndex
from segserve.rendering.source_file import SourceFile, StoredView
from segserve.types import UInt8
from segserve.wire.results.job_formats import FILE_TYPES, JobFormat
from segserve.wire.results.objects import coco_annotation

GATHERED = 1 << 20  # bytes of lines looked through at once
MADE_OF_LINES = (JobFormat.COCO, JobFormat.PNG, JobFormat.TIFF)


async def write_frame_results(service: Service, job: Job, asked: JobFormat) -> AsyncGenerator[bytes]:
    """What is published now. Raises as `job.write_job_results`, before the first part."""
    async with AsyncExitStack() as stack:
        lines = ResultIndex()
        stack.callback(lines.close)
        await collect(lines, await service.jobs.queue.read_results(job.tenant, job.job_id))
        if asked in MADE_OF_LINES:
            made = coco(lines, job) if asked is JobFormat.COCO else archive(lines, job, asked)
        else:
            view = StoredView.model_validate_json(await service.jobs.queue.read_request(job)).view
            record, path = await stack.enter_async_context(service.files.local_copy(job.tenant, view.file_id))
            made = made_with(SourceFile(view, record, path, service.files.limits), lines, job, asked)
        parts = await stack.enter_async_context(aclosing(service.rendering_pool.stream(made)))
        async for part in parts:
            yield part


async def collect(lines: ResultIndex, given: AsyncIterator[bytes]) -> None:
    gathered, size = list[bytes](), 0
    async for line in given:
        gathered.append(line)
        size += len(line)
        if size > GATHERED:
            await asyncio.to_thread(lines.add_lines, gathered)
            gathered, size = [], 0
    await asyncio.to_thread(lines.add_lines, gathered)


def name(job: Job, frame: int) -> str:
    """As annotation tools name the frames of a video."""
    return f"{'slice' if job.kind is JobKind.VOLUME else 'frame'}_{frame:06d}"


def coco(lines: ResultIndex, job: Job) -> Generator[bytes]:
    """One COCO data set (cocodataset.org, "Data format") of an image a frame. An annotation's attributes say which
    object it is; track_id is what labeling tools call it."""
    yield b'{"categories":[{"id":1,"name":"object"}],"images":['
    between = b""
    for frame in lines.frame_numbers:
        size = {"width": lines.size.width, "height": lines.size.height}
        yield between + orjson.dumps({"id": frame + 1, "file_name": f"{name(job, frame)}.png", **size})
        between = b","
    yield b'],"annotations":['
    between, count = b"", 0
    for frame in lines.frame_numbers:
        for entry in lines.get_objects(frame):
            if not entry["area"]:
                continue
            count += 1
            parent = {"parent": entry["parent"]} if "parent" in entry else {}
            attributes = {"object_id": entry["object_id"], "track_id": entry["object_id"], **parent}
            found = coco_annotation(count, frame + 1, 1, entry)
            yield between + orjson.dumps({**found, "attributes": attributes})
            between = b","
    yield b"]}"


def archive(lines: ResultIndex, job: Job, asked: JobFormat) -> Generator[bytes]:
    """A label map a frame: its values are object_ids. Raises TooLarge where the format does not hold them."""
    if asked is JobFormat.PNG and lines.dtype is not np.uint16:
        raise TooLarge(
            "There are object_ids that the 16 bits of a PNG do not hold.",
            field="format",
            remedy="Ask for format 'tiff'.",
        )
    out = ZipStream(compress_type=ZIP_STORED)
    encode = label_map.encode_png if asked is JobFormat.PNG else label_map.encode_tiff
    for frame in lines.frame_numbers:
        out.add(encode(lines.build_label_map(frame, lines.size)), f"{name(job, frame)}.{asked}")
        yield from out.all_files()
    yield from out.finalize()


def made_with(file: SourceFile, lines: ResultIndex, job: Job, asked: JobFormat) -> Generator[bytes]:
    """What takes the file that the job worked on. Raises BadInput, TooLarge, MissingDependency."""
    match asked:
        case JobFormat.MP4:
            yield from clip(file, lines, job)
        case JobFormat.SHEET:
            with file.open_frames() as frames:
                yield from render_contact_sheet(frames, lines, file.pixel_size)
        case JobFormat.TIFF_STACK if job.kind is not JobKind.VOLUME:
            yield from label_volume.write_frames_tiff(
                lines, file.record.count, file.record.size, file.record.fps
            )
        case JobFormat.TIFF_STACK:
            yield from label_volume.write_volume_tiff(lines, file.view.axis, file.read_geometry())
        case _:
            yield from label_volume.write_label_volume(
                lines, file.view.axis, file.read_geometry(), FILE_TYPES[asked].suffix
            )


def clip(file: SourceFile, lines: ResultIndex, job: Job) -> Iterator[bytes]:
    """From the first frame on, so that times are the source's; of a job that is not done, to the last frame that is."""
    if job.state is not JobState.SUCCEEDED and not lines.frame_numbers:
        raise BadInput(
            "No frame is done yet.", field="format", remedy="Ask again when the job's progress is above 0."
        )
    with file.open_frames() as frames:
        count = (
            frames.count
            if job.state is JobState.SUCCEEDED
            else min(frames.count, lines.frame_numbers[-1] + 1)
        )

        def drawn() -> Iterator[UInt8]:
            for frame in range(count):
                yield draw_overlay(frames.read(frame), lines.get_objects(frame))

        yield from encode_mp4(drawn(), file.record.fps)
