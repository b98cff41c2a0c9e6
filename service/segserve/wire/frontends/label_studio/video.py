"""Videos of Label Studio: rectangles that follow an object, and the events of interactive video.

A rectangle that an annotator has drawn comes as a prediction, whose answer is the rectangle on the frames after it.
Events are what newer versions send in `context.event`: capabilities, prewarm, predict on one frame, track,
track_progress, track_cancel, release. Both follow objects by a job. Frames count from 1 there, and from 0 here.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import orjson

from segserve.errors import BadInput, Busy, SegserveError
from segserve.files.file_view import FileView
from segserve.identity.identity import current_tenant
from segserve.jobs.engine.job import Job, JobState
from segserve.masks import crop, rle
from segserve.models.promptable_model import PromptableModel
from segserve.types import Candidate, Crop, FileRecord, FrontendName, ImageRecord, Size
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.label_studio.bodies import ContextIn, RegionIn, TaskIn
from segserve.wire.frontends.label_studio.predict import Target, find_key
from segserve.wire.frontends.label_studio.prompts import ObjectPrompt, read_box, read_prompts
from segserve.wire.frontends.label_studio.results import box_to_percent, write_bitmask
from segserve.wire.frontends.label_studio.task_media import TaskMedia
from segserve.wire.frontends.sessions import SessionNotFound, Sessions
from segserve.wire.http.limits import SPOOL_BYTES
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.file_frames import write_frame
from segserve.wire.operations.jobs import submit_job
from segserve.wire.operations.run_job import cancel_job
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

VIDEO_EVENTS = ("capabilities", "prewarm", "predict", "track", "track_progress", "track_cancel", "release")
VIDEO_RECTANGLE = "videorectangle"
# Frames that are followed from a prompt, each way. More than Label Studio shows at once.
MAX_TRACKED_FRAMES = 300
MAX_KEYFRAMES = 1024
# Frames that are encoded ahead of the one that is looked at.
MAX_PREWARMED_FRAMES = 8
# How long an answer waits for the next frames, and how many it brings.
PROGRESS_WAIT_S = 5.0
MAX_PROGRESS_FRAMES = 32
POLL_S = 0.1
# Label Studio waits 100 s for a prediction.
RECTANGLE_WAIT_S = 80.0
ASSUMED_FPS = 24.0  # of a file that does not say it, as Label Studio assumes
TARGETS = (
    ("BrushLabels", "mask", False),
    ("BitmaskLabels", "mask", False),
    ("RectangleLabels", "bbox", False),
    ("PolygonLabels", "polygon", False),
    ("VideoRectangle", "bbox", True),
    ("VideoVectorLabels", "polygon", True),
)


@dataclass
class Track:
    """An object that is followed. first, last: of the frames that are wanted. lines_read: of the job's results.

    seen: wanted frames among them. produced: those with the object.
    """

    job_id: str
    task_id: int | None
    size: Size
    fps: float
    first: int
    last: int
    lines_read: int = 0
    seen: int = 0
    produced: int = 0

    @property
    def total(self) -> int:
        return self.last - self.first + 1


class Videos:
    """`Videos` answers what is about videos, and the events."""

    def __init__(self, parts: FrontendParts, media: TaskMedia) -> None:
        self._parts, self._service, self._media = parts, parts.service, media
        self._sessions = Sessions[Track](parts.service, FrontendName.LABEL_STUDIO, self._end_track)

    def is_video(self, target: Target, context: ContextIn) -> bool:
        """Whether a prediction without an event is about a video."""
        return find_name(target, context) in target.config.video_controls

    async def answer(self, target: Target, task: TaskIn, context: ContextIn) -> Json:
        """Answer an event, or a prediction about a video. Raises BadInput, and what the operations raise."""
        match context.event:
            case "capabilities":
                return reply(target, context, "capabilities", describe_capabilities(target.bundle.name))
            case "prewarm":
                return reply(target, context, "prewarm_ack", await self._prewarm(target, task, context))
            case "release":
                # Embeddings belong to nobody: caches drop them. Tracks end by track_cancel, or by themselves.
                return reply(target, context, "release_ack", {"status": "released"})
            case "track":
                kind, value = await self._track(target, task, context)
                return reply(target, context, kind, value)
            case "track_progress":
                value = await self._read_progress(task, context)
                return reply(target, context, "track_progress", value)
            case "track_cancel":
                return reply(target, context, "track_cancel_ack", self._cancel(task, context))
        if context.result and context.result[0].type == VIDEO_RECTANGLE:
            return await self._follow_rectangles(target, task, context.result)
        return await self._predict_mask(target, task, context)

    async def _get_video(self, target: Target, task: TaskIn, context: ContextIn) -> FileRecord:
        key = find_key(target.config, find_name(target, context))
        return await self._media.get_file(target.connection, task, key)

    async def _get_image(self, target: Target, task: TaskIn, context: ContextIn) -> ImageRecord:
        """Return the image that is looked at: of the task, or a frame of its video."""
        name = find_name(target, context)
        if name not in target.config.video_controls:
            return await self._media.get_image(target.connection, task, find_key(target.config, name), None)
        record = await self._get_video(target, task, context)
        return await self._store_frame(record, find_frame(context, record))

    async def _store_frame(self, record: FileRecord, frame: int) -> ImageRecord:
        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            await write_frame(self._service, FileView(record.file_id), frame, cast(BinaryIO, spool))
            spool.seek(0)
            return await self._parts.sent_images.store_bytes(spool.read())

    async def _predict_mask(self, target: Target, task: TaskIn, context: ContextIn) -> Json:
        """Return the mask of what is meant on a frame or an image: the client makes of it what it needs."""
        image = await self._get_image(target, task, context)
        prompts = await asyncio.to_thread(read_prompts, context.result, image.size)
        if not prompts:
            return {"result": [], "score": 0.0}
        request = {
            "image_id": image.image_id,
            "model": target.bundle.name,
            "prompts": [prompt.to_json() for prompt in prompts],
        }

        def render(candidate: Candidate) -> Json:
            return write_mask(candidate.crop)

        checked = validate_body(SegmentIn, orjson.dumps(request))
        answer = await segment.segment(self._service, checked, render, self._service.new_timings())
        results = [
            reply(target, context, "bitmask", mask.rendered)["result"][0]
            for masks in answer.results
            for mask in masks
        ]
        scores = [mask.candidate.score for masks in answer.results for mask in masks]
        return {"result": results, "score": sum(scores) / len(scores)}

    async def _prewarm(self, target: Target, task: TaskIn, context: ContextIn) -> Json:
        """Begin to encode the image, or frames of the video from the one that is looked at."""
        model = await self._service.registry.get(target.bundle.name, PromptableModel)
        if find_name(target, context) not in target.config.video_controls:
            self._service.start_encoding(await self._get_image(target, task, context), model)
            return {"status": "ok", "cached": [0], "pending": []}
        record = await self._get_video(target, task, context)
        frame, ahead = find_frame(context, record), min(context.window, MAX_PREWARMED_FRAMES)
        first, last = (frame - ahead, frame) if context.direction == "backward" else (frame, frame + ahead)
        frames = list(range(max(0, first), min(record.count - 1, last) + 1))

        async def encode() -> None:
            with suppress(SegserveError):
                for number in sorted(frames, key=lambda number: abs(number - frame)):
                    self._service.start_encoding(await self._store_frame(record, number), model)

        self._service.run_in_background(encode())
        return {"status": "ok", "cached": [], "pending": frames, "frame_count": record.count}

    async def _track(self, target: Target, task: TaskIn, context: ContextIn) -> tuple[str, Json]:
        """Begin to follow an object. Returns the kind of the answer, and its value."""
        try:
            self._sessions.reserve()
        except Busy as error:
            return "track_busy", {"error": str(error), "max_sessions": self._service.settings.max_sessions}
        record = await self._get_video(target, task, context)
        prompts = await asyncio.to_thread(read_prompts, context.result, record.size)
        if len(prompts) != 1:
            return "track_error", {"error": "Mark one object: it is followed alone.", "done": True}
        frame, fps = find_frame(context, record), record.fps or ASSUMED_FPS
        wanted = MAX_TRACKED_FRAMES if context.max_frames is None else context.max_frames
        if context.max_duration_ms is not None:
            wanted = round(context.max_duration_ms / 1000 * fps)
        wanted = min(wanted, MAX_TRACKED_FRAMES)
        direction = context.direction if context.direction in ("forward", "backward", "both") else "forward"
        first = frame if direction == "forward" else max(0, frame - wanted)
        last = frame if direction == "backward" else min(record.count - 1, frame + wanted)
        job = await self._submit(target, record, direction, {1: {frame: prompts[0]}})
        track = Track(job.job_id, task.id, record.size, fps, first, last)
        try:
            session_id = self._sessions.open(track)
        except Busy:
            await self._end_track(track)
            raise
        return "track_started", {
            "session_id": session_id,
            "total_frames": track.total,
            "fps": fps,
            "duration_ms": record.count * 1000 / fps,
        }

    async def _submit(
        self, target: Target, record: FileRecord, direction: str, objects: dict[int, dict[int, ObjectPrompt]]
    ) -> Job:
        """Submit the job that follows objects. objects: their prompts by frame, by their ids."""
        body = {
            "kind": "video",
            "model": target.bundle.name,
            "priority": "interactive",
            "input": {"file_id": record.file_id},
            "params": {
                "direction": direction,
                "objects": [
                    {
                        "object_id": object_id,
                        "prompts": [
                            {"frame": frame, **prompt.to_json()} for frame, prompt in prompts.items()
                        ],
                    }
                    for object_id, prompts in objects.items()
                ],
            },
        }
        return await submit_job(self._service, validate_body(JobIn, orjson.dumps(body)), None)

    async def _read_progress(self, task: TaskIn, context: ContextIn) -> Json:
        """Return the frames that are new, after a moment where there are none."""
        try:
            with self._sessions.use(context.session_id) as track:
                if track.task_id != task.id:
                    raise SessionNotFound(context.session_id)
                job, lines = await self._wait_for_lines(track)
                frames = await asyncio.to_thread(write_frames, lines, track)
        except SessionNotFound:
            return {"error": "session not found", "done": True}
        track.lines_read += len(lines)
        track.produced += len(frames)
        done = track.seen >= track.total or (job.state.has_ended and not lines)
        error = None
        if job.state is JobState.FAILED and job.error is not None:
            error = job.error.message
        if done:
            with suppress(SessionNotFound):
                self._sessions.end(context.session_id)
        return {
            "frames": frames,
            "produced": track.produced,
            "total": track.total,
            "done": done,
            "error": error,
        }

    async def _wait_for_lines(self, track: Track) -> tuple[Job, list[bytes]]:
        queue, deadline = self._service.jobs.queue, time.monotonic() + PROGRESS_WAIT_S
        while True:
            # Read in this order: what a job that has ended has published is all that comes.
            job = await queue.get(current_tenant(), track.job_id)
            published = await queue.read_results(current_tenant(), track.job_id, track.lines_read)
            lines: list[bytes] = []
            async for line in published:
                lines.append(line)
                if len(lines) == MAX_PROGRESS_FRAMES:
                    break
            if lines or job.state.has_ended or time.monotonic() > deadline:
                return job, lines
            await asyncio.sleep(POLL_S)

    def _cancel(self, task: TaskIn, context: ContextIn) -> Json:
        try:
            with self._sessions.use(context.session_id) as track:
                if track.task_id != task.id:
                    raise SessionNotFound(context.session_id)
            self._sessions.end(context.session_id)
        except SessionNotFound:
            return {"status": "not_found"}
        return {"status": "cancelled"}

    async def _end_track(self, track: Track) -> None:
        """Cancel the job of a track that nobody follows any more. One that has ended stays as it is."""
        await cancel_job(self._service, track.job_id)

    async def _follow_rectangles(self, target: Target, task: TaskIn, regions: Sequence[RegionIn]) -> Json:
        """Return the rectangles on the frames after those that were drawn, as far as Label Studio waits for it."""
        record = await self._get_video(target, task, ContextIn(result=list(regions)))
        keyframes = [read_keyframes(region, record) for region in regions]
        objects = {
            number: {frame: ObjectPrompt(region.label, box=box) for frame, box in boxes.items()}
            for number, (region, boxes) in enumerate(zip(regions, keyframes, strict=True), 1)
        }
        job = await self._submit(target, record, "forward", objects)
        start = min(max(boxes) for boxes in keyframes)
        track = Track(
            job.job_id, task.id, record.size, record.fps or ASSUMED_FPS, 0, start + MAX_TRACKED_FRAMES
        )
        track.last = min(track.last, record.count - 1)
        lines: list[Json] = []
        try:
            deadline = time.monotonic() + RECTANGLE_WAIT_S
            while time.monotonic() < deadline:
                job, new = await self._wait_for_lines(track)
                track.lines_read += len(new)
                lines += map(orjson.loads, new)
                if (job.state.has_ended and not new) or (lines and lines[-1]["frame"] >= track.last):
                    break
        finally:
            # In the background: where the client has left, nothing can be awaited here any more.
            self._service.run_in_background(self._end_track(track))
        if job.state is JobState.FAILED and job.error is not None:
            raise BadInput(job.error.message, field="tasks", remedy=job.error.remedy)
        result = await asyncio.to_thread(
            lambda: [
                write_rectangle(region, number, max(boxes), lines, track)
                for number, (region, boxes) in enumerate(zip(regions, keyframes, strict=True), 1)
            ]
        )
        return {"result": result, "score": 1.0}


def find_name(target: Target, context: ContextIn) -> str:
    """Return the name of the picture or video that an annotator works on."""
    for region in context.result:
        if region.to_name in target.config.values:
            return region.to_name
    return next(iter(target.config.values), "")


def find_frame(context: ContextIn, record: FileRecord) -> int:
    """Return the frame that is shown, from 0."""
    if context.time_ms is not None and record.fps:
        # The frame on the screen is the one that began last.
        frame = int(min(context.time_ms / 1000 * record.fps, record.count))
    else:
        frame = (1 if context.frame is None else context.frame) - 1
    return min(max(frame, 0), record.count - 1)


def reply(target: Target, context: ContextIn, kind: str, value: Json) -> Json:
    """Return an answer to an event: one result of a type of its own."""
    name = find_name(target, context)
    control = target.config.video_controls.get(name) or next(
        (control.name for control in target.config.controls_of(name)), ""
    )
    result = {
        "id": secrets.token_urlsafe(8),
        "from_name": control,
        "to_name": name,
        "type": kind,
        "origin": "manual",
        "value": value,
    }
    return {"result": [result], "score": 1.0}


def describe_capabilities(model: str) -> Json:
    return {
        "prompts": ["point", "box"],
        "targets": [
            {"tag": tag, "output": output, **({"features": ["track"]} if tracks else {})}
            for tag, output, tracks in TARGETS
        ],
        "model_info": {"name": model, "version": model},
    }


def write_mask(mask: Crop) -> Json:
    """Return a mask as interactive video has it. Blocks."""
    return {**write_bitmask(mask), "width": mask.size.width, "height": mask.size.height}


def read_mask(item: Json, size: Size) -> Crop:
    return crop.from_mask(rle.decode(item["mask"]["counts"], size))


def write_frames(lines: list[bytes], track: Track) -> list[Json]:
    """Return the masks of frames. Frames without the object are left out. Blocks."""
    frames = []
    for line in map(orjson.loads, lines):
        if not track.first <= line["frame"] <= track.last:
            continue
        track.seen += 1
        for item in line["objects"]:
            mask = read_mask(item, track.size)
            if mask.pixels.size:
                place = {"frame": line["frame"], "time_ms": line["frame"] * 1000 / track.fps}
                frames.append({**place, **write_mask(mask)})
    return frames


def read_keyframes(region: RegionIn, record: FileRecord) -> dict[int, tuple[float, float, float, float]]:
    """Return the rectangles that were drawn, in pixels, by their frames. Raises BadInput."""
    sequence, boxes = region.value.get("sequence"), {}
    for entry in sequence[-MAX_KEYFRAMES:] if isinstance(sequence, list) else []:
        if isinstance(entry, dict) and entry.get("enabled", True):
            drawn = region.model_copy(update={"value": entry})
            frame = min(max(int(drawn.number("frame")) - 1, 0), record.count - 1)
            boxes[frame] = read_box(drawn, "rectangle", record.size)
    if not boxes:
        raise BadInput(
            "The region has no rectangle on any frame.",
            field="params.context.result.value.sequence",
            remedy="Draw one around the object.",
        )
    return boxes


def write_rectangle(region: RegionIn, object_id: int, start: int, lines: list[Json], track: Track) -> Json:
    """Return the region with a rectangle on each frame after `start`, as long as the object is there. Blocks."""
    sequence, is_there = list(region.value["sequence"]), True
    for line in lines:
        if not start < line["frame"] <= track.last:
            continue
        masks = [read_mask(item, track.size) for item in line["objects"] if item["object_id"] == object_id]
        boxes = [box_to_percent(crop.bounding_box(mask), track.size) for mask in masks if mask.pixels.size]
        place = {"frame": line["frame"] + 1, "time": line["frame"] / track.fps, "rotation": 0}
        if boxes:
            sequence.append({**boxes[0], **place, "enabled": True})
        elif is_there:
            sequence.append({**sequence[-1], **place, "enabled": False})
        is_there = bool(boxes)
    return {
        "id": region.id,
        "from_name": region.from_name,
        "to_name": region.to_name,
        "type": VIDEO_RECTANGLE,
        "origin": "manual",
        "value": {**region.value, "sequence": sequence},
    }
