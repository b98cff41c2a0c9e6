"""Videos of X-AnyLabeling: the frames come at once, then points on some of them; a job follows the object."""

import asyncio
import secrets
import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, cast

import orjson
from pydantic import Field, FiniteFloat

from segserve.app import Service
from segserve.errors import BadInput, SegserveError
from segserve.files.file_view import FileView
from segserve.identity.identity import current_tenant
from segserve.jobs.engine.job import Job, JobState
from segserve.masks import crop, rle
from segserve.temporary_files import translate_disk_full
from segserve.types import Candidate, FileKind, FileRecord, Size
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.frontends.sent_images import decode_base64
from segserve.wire.frontends.sessions import Sessions
from segserve.wire.frontends.x_anylabeling.shapes import PROPOSED_LABEL, to_shapes
from segserve.wire.http.limits import SPOOL_BYTES
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.file_frames import write_frame
from segserve.wire.operations.jobs import submit_job
from segserve.wire.operations.run_job import cancel_job
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.prompts import MAX_POINTS
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

MAX_FRAMES = 10_000
MAX_PROMPTED_FRAMES = 256  # of an object
MAX_OBJECTS = 64  # of a session
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]


class InitIn(ClientBody):
    model: str = Field(max_length=64)
    frames: list[str] = Field(min_length=1, max_length=MAX_FRAMES)


class SessionBody(ClientBody):
    session_id: str = Field(max_length=128)


class VideoParamsIn(ClientBody):
    epsilon_factor: float = Field(0.0, ge=0, le=1)


class PromptIn(SessionBody):
    """points: x, y as parts of width and height. point_labels: 1 on the object, 0 not on it."""

    frame_index: int = Field(ge=0)
    points: list[Annotated[list[Fraction], Field(min_length=2, max_length=2)]] = Field(
        [], max_length=MAX_POINTS
    )
    point_labels: list[int] = Field([], max_length=MAX_POINTS)
    obj_id: int = Field(1, ge=1, le=65_535)
    text_prompt: str | None = None
    params: VideoParamsIn = Field(default_factory=VideoParamsIn)


class PropagateIn(SessionBody):
    """end_frame: the last one that is answered; the last of the video if left out."""

    start_frame: int | None = Field(None, ge=0)
    end_frame: int | None = Field(None, ge=0)


@dataclass
class VideoSession:
    """A video that a client labels.

    record: of the frames, a file of this session alone. prompts: by object and frame, the JSON of a prompt.
    epsilon_factor: of the latest prompt.
    """

    model: str
    record: FileRecord
    prompts: dict[int, dict[int, Json]] = field(default_factory=dict)
    epsilon_factor: float = 0.0

    @property
    def size(self) -> Size:
        return self.record.size


class Videos:
    """`Videos` answers the requests on videos. sessions: a session that ends deletes its frames.

    Where the service is killed, the lease of the frames ends, and another process deletes them.
    """

    def __init__(self, parts: FrontendParts, sessions: Sessions[VideoSession]) -> None:
        self._parts, self._service, self._sessions = parts, parts.service, sessions

    async def init(self, model: str, frames: list[str]) -> Json:
        """Store the frames. Raises BadInput, Busy, and what `FileLibrary.add` raises."""
        _ = self._service.jobs  # raises where there are none, before anything is stored
        self._sessions.reserve()
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await asyncio.to_thread(write_zip, frames, file)
            record = await self._service.leased_files.add(current_tenant(), file)
        session = VideoSession(model, record)
        try:
            if record.kind is not FileKind.FRAMES or record.count != len(frames):
                raise BadInput(
                    "The pictures are no frames of a video.",
                    field="frames",
                    remedy="Send pictures of one size.",
                )
            session_id = self._sessions.open(session)
        except SegserveError:
            await delete_frames(self._service, session)
            raise
        return {"session_id": session_id, "num_frames": record.count}

    async def prompt(self, body: PromptIn) -> Json:
        """Return the shapes of the object on the frame. Raises BadInput, and what the operations raise."""
        with self._sessions.use(body.session_id) as session:
            prompt = read_prompt(body, session)
            with SpooledTemporaryFile(SPOOL_BYTES) as spool:
                view = FileView(session.record.file_id)
                await write_frame(self._service, view, body.frame_index, cast(BinaryIO, spool))
                spool.seek(0)
                image = await self._parts.sent_images.store_bytes(spool.read())
            epsilon_factor = body.params.epsilon_factor

            def render(candidate: Candidate) -> list[Json]:
                return to_shapes(candidate.crop, PROPOSED_LABEL, candidate.score, epsilon_factor)

            request = {"image_id": image.image_id, "model": session.model, "prompts": [prompt]}
            checked = validate_body(SegmentIn, orjson.dumps(request))
            result = await segment.segment(self._service, checked, render, self._service.new_timings())
            frames = session.prompts.setdefault(body.obj_id, {})
            frames[body.frame_index] = prompt
            session.epsilon_factor = epsilon_factor
        shapes = [shape for masks in result.results for mask in masks for shape in mask.rendered]
        return {"masks": shapes, "frame_index": body.frame_index}

    async def propagate(self, body: PropagateIn) -> AsyncGenerator[bytes]:
        """Follow the objects of a session, and yield the events of it: started, progress, completed or error.

        The job is cancelled where the client leaves.
        """
        with self._sessions.use(body.session_id) as session:
            job = await submit_job(self._service, build_job(session), None)
            last_frame = session.record.count - 1 if body.end_frame is None else body.end_frame
            first_frame = body.start_frame or 0
            yield event("started", total_frames=session.record.count, start_frame_index=first_frame)
            queue = self._service.jobs.queue
            try:
                async with aclosing(queue.follow(current_tenant(), job.job_id)) as changes:  # type: ignore[type-var]
                    async for change in changes:
                        if change is None:
                            if self._service.closing.is_set():
                                break
                            yield b": still here\n\n"
                            continue
                        job = change.job
                        yield event("progress", current_frame=first_frame + job.done)
                if job.state is JobState.SUCCEEDED:
                    lines = [line async for line in await queue.read_results(current_tenant(), job.job_id)]
                    yield await asyncio.to_thread(write_completed, lines, session, first_frame, last_frame)
                else:
                    yield event("error", message=describe_end(job))
            finally:
                if not job.state.has_ended:
                    # In the background: where the client has left, nothing can be awaited here any more.
                    self._service.run_in_background(cancel_job(self._service, job.job_id))

    def cleanup(self, session_id: str) -> None:
        """End a session, as the client asks. Raises SessionNotFound."""
        self._sessions.end(session_id)


async def delete_frames(service: Service, session: VideoSession) -> None:
    """Delete the frames of a session that has ended."""
    await service.leased_files.delete(current_tenant(), session.record.file_id)


def write_zip(frames: list[str], file: BinaryIO) -> None:
    """Write the frames into a zip. It holds a random text, so that no other upload is the same file: this one is
    deleted when the session ends. Blocks. Raises BadInput."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = secrets.token_hex(16).encode()
        for number, text in enumerate(frames):
            archive.writestr(f"{number:06d}", decode_base64(text, f"frames.{number}"))


def read_prompt(body: PromptIn, session: VideoSession) -> Json:
    """Return the JSON of the prompt, in pixels. Raises BadInput."""
    if body.text_prompt:
        raise BadInput(
            "Texts are no prompts here.", field="text_prompt", remedy="Mark the object with points."
        )
    if body.frame_index >= session.record.count:
        raise BadInput(
            f"There is no frame {body.frame_index}.",
            field="frame_index",
            remedy=f"Send one from 0 to {session.record.count - 1}.",
        )
    if len(session.prompts) >= MAX_OBJECTS and body.obj_id not in session.prompts:
        raise BadInput(
            f"The video has {MAX_OBJECTS} objects.",
            field="obj_id",
            remedy="Follow these first, then begin anew.",
        )
    known = session.prompts.get(body.obj_id, {})
    if len(known) >= MAX_PROMPTED_FRAMES and body.frame_index not in known:
        raise BadInput(
            f"The object has points on {MAX_PROMPTED_FRAMES} frames.",
            field="frame_index",
            remedy="Begin anew.",
        )
    width, height = session.size.width, session.size.height
    return {
        "points": [[x * width, y * height] for x, y in body.points],
        "labels": [int(label != 0) for label in body.point_labels],
    }


def build_job(session: VideoSession) -> JobIn:
    """Return the job that follows the objects of a session. Raises BadInput where there are none."""
    objects = [
        {"object_id": object_id, "prompts": [{"frame": frame, **prompt} for frame, prompt in frames.items()]}
        for object_id, frames in session.prompts.items()
    ]
    body = {
        "kind": "video",
        "model": session.model,
        "priority": "interactive",
        "input": {"file_id": session.record.file_id},
        "params": {"objects": objects},
    }
    return validate_body(JobIn, orjson.dumps(body))


def write_completed(lines: list[bytes], session: VideoSession, first_frame: int, last_frame: int) -> bytes:
    """Return the event that ends a propagation, with the shapes of all frames: tens of megabytes. Blocks."""
    return event("completed", results=lines_to_results(lines, session, first_frame, last_frame))


def lines_to_results(lines: list[bytes], session: VideoSession, first_frame: int, last_frame: int) -> Json:
    """Return the shapes of each frame. Blocks."""
    results: Json = {}
    for line in map(orjson.loads, lines):
        if first_frame <= line["frame"] <= last_frame:
            masks = [
                shape
                for item in line["objects"]
                for shape in to_shapes(
                    crop.from_mask(rle.decode(item["mask"]["counts"], session.size)),
                    PROPOSED_LABEL,
                    item.get("score"),
                    session.epsilon_factor,
                )
            ]
            results[str(line["frame"])] = {"masks": masks}
    return results


def describe_end(job: Job) -> str:
    """Return why a job gave no result."""
    return job.error.message if job.error is not None else f"The job is {job.state}."


def event(kind: str, **content: Any) -> bytes:
    """Return a server-sent event, as the client reads it."""
    return b"data: " + orjson.dumps({"type": kind, **content}) + b"\n\n"
