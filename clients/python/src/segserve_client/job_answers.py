"""What the service answers about jobs, and the lines of their results, as typed values. Every function is pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve_client.answers import (
    Box,
    ClassMap,
    ImageObjects,
    SegmentAnswer,
    draw_labels,
    parse_box,
    parse_class_map,
    parse_objects,
    parse_rle,
    parse_segment,
)
from segserve_client.errors import ClientError, Problem, parse_problem
from segserve_client.rle import Bool, Rle

Json = Mapping[str, Any]

SUCCEEDED = "succeeded"
ENDED = (SUCCEEDED, "failed", "cancelled")


@dataclass(frozen=True)
class ObjectEnd:
    """Where an object ended or was lost. frame: the first one without it. last_frame: the last one with it, if any."""

    object_id: int
    frame: int
    last_frame: int | None
    reason: str


@dataclass(frozen=True)
class JobInfo:
    """A job as it was when the service answered.

    state: queued, running, succeeded, failed or cancelled.
    done, total: images, frames or slices; total is None until the job has begun. failed: how many of them failed.
    ends: the latest ends of objects. ends_count: of all of them.
    error: why it has failed, if it has.
    """

    job_id: str
    kind: str
    model: str
    priority: str
    state: str
    done: int
    total: int | None
    failed: int
    rate_per_s: float | None
    eta_s: float | None
    ends: tuple[ObjectEnd, ...]
    ends_count: int
    error: Problem | None
    raw: Json = field(repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class FrameObject:
    """An object on a frame or slice. parent: of tracks, the object that it divided from."""

    object_id: int
    rle: Rle
    box: Box
    area: int
    score: float | None
    parent: int | None

    @property
    def array(self) -> Bool:
        """The mask, bool [height, width]."""
        return self.rle.array


@dataclass(frozen=True)
class Frame:
    """A frame or slice of a video, volume or tracking job. index: its number, from 0.

    objects: those that are on it. ends: where objects ended or were lost. missing: the objects that are looked for, and
    why they were not found here.
    """

    index: int
    width: int
    height: int
    objects: tuple[FrameObject, ...]
    ends: tuple[ObjectEnd, ...]
    missing: Mapping[int, str]
    raw: Json = field(repr=False, compare=False)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """The label map, int32 [height, width]: object_ids, 0 is background. Smaller objects are on top."""
        numbered = [(item.object_id, item.rle, item.area) for item in self.objects]
        return draw_labels(numbered, (self.height, self.width))

    def find(self, object_id: int) -> FrameObject | None:
        """Return the object with this number, or None where it is not on the frame."""
        return next((item for item in self.objects if item.object_id == object_id), None)


@dataclass(frozen=True)
class Item:
    """The result of one image of a batch. index: its place in the batch, from 0. image_id: empty if it has none.

    result: what the operation answered: objects, a class map or masks; None for embeddings and for a failed image.
    error: why the image failed, if it did.
    """

    index: int
    name: str
    image_id: str
    result: ImageObjects | ClassMap | SegmentAnswer | None
    error: Problem | None
    raw: Json = field(repr=False, compare=False)

    @property
    def objects(self) -> ImageObjects:
        """The objects. Raises the error of an image that failed, ValueError where the operation finds none."""
        if self.error is not None:
            raise self.error
        if not isinstance(self.result, ImageObjects):
            raise ValueError("the operation of this batch does not find objects: look at result")
        return self.result


class JobFailed(ClientError):
    """A job ended as failed or cancelled. job: as it ended."""

    def __init__(self, job: JobInfo) -> None:
        self.job = job
        error = "" if job.error is None else f" {job.error}"
        super().__init__(f"The job {job.job_id} ended as {job.state}.{error}")


class JobStillRunning(ClientError, TimeoutError):
    """A job did not end within the time that was waited for it. job: as it was at last."""

    def __init__(self, job: JobInfo, timeout_s: float) -> None:
        self.job = job
        super().__init__(f"The job {job.job_id} is still {job.state} after {timeout_s:g} s.")


def parse_job(content: Json) -> JobInfo:
    progress, ends = content["progress"], content["object_ends"]
    return JobInfo(
        content["job_id"],
        content["kind"],
        content["model"],
        content["priority"],
        content["state"],
        progress["done"],
        progress["total"],
        progress["failed"],
        progress["rate_per_s"],
        progress["eta_s"],
        tuple(parse_end(end) for end in ends["latest"]),
        ends["count"],
        None if content["error"] is None else parse_problem(content["error"]),
        content,
    )


def parse_end(content: Json) -> ObjectEnd:
    word = "slice" if "slice" in content else "frame"
    return ObjectEnd(content["object_id"], content[word], content[f"last_{word}"], content["reason"])


def parse_frame(content: Json) -> Frame:
    objects = tuple(
        FrameObject(
            item["object_id"],
            parse_rle(item["mask"]),
            parse_box(item["box"]),
            item["area"],
            item.get("score"),
            item.get("parent"),
        )
        for item in content["objects"]
    )
    return Frame(
        content["slice"] if "slice" in content else content["frame"],
        content["width"],
        content["height"],
        objects,
        tuple(parse_end(end) for end in content.get("ends", ())),
        {item["object_id"]: item["reason"] for item in content.get("missing", ())},
        content,
    )


def parse_item(content: Json) -> Item:
    error = content.get("error")
    return Item(
        content["index"],
        content.get("name") or content.get("image_id") or "",
        content.get("image_id") or "",
        None if error else parse_result(content),
        parse_problem(error) if error else None,
        content,
    )


def parse_result(content: Json) -> ImageObjects | ClassMap | SegmentAnswer | None:
    if "results" in content:
        return parse_segment(content)
    if "classes" in content:
        return parse_class_map(content)
    return parse_objects(content) if "objects" in content else None


def parse_line(content: Json) -> Frame | Item:
    """Return a result line of any kind of job."""
    return parse_frame(content) if "frame" in content or "slice" in content else parse_item(content)
