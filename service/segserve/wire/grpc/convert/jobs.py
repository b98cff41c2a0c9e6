"""Jobs, between messages and what is used inside."""

import math
from collections.abc import Sequence
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict

from segserve.errors import BadInput
from segserve.jobs.engine.job import Job
from segserve.types import Priority
from segserve.v1 import jobs_pb2
from segserve.wire.grpc.convert.enums import decode_enum
from segserve.wire.grpc.convert.prompts import check_count, prompt_from_message
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import MAX_OBJECTS, MAX_PROMPTS_PER_OBJECT, AddPromptsIn

PRIORITY = dict(enumerate([Priority.BATCH, Priority.BATCH, Priority.INTERACTIVE]))

MAX_EXACT_FLOAT = 1 << 53  # a float64 holds every integer up to here


def job_from_message(message: jobs_pb2.SubmitJobRequest) -> JobIn:
    """Raises BadInput naming the field at fault."""
    kind = message.WhichOneof("work")
    if kind is None:
        raise BadInput("No work is named.", field="work", remedy="Send batch, video, volume or tracking.")
    body = {
        "kind": kind,
        "model": message.model or None,
        "priority": decode_enum(PRIORITY, message.priority, "priority").value,
        "webhook": message.webhook or None,
    }
    if kind == "batch":
        body |= batch_from_message(message.batch)
    else:
        body |= file_job_from_message(getattr(message, kind))
    return validate_body(JobIn, orjson.dumps(body))


def batch_from_message(message: jobs_pb2.Batch) -> dict[str, Any]:
    """The JSON fields `input` and `params` of `BatchIn`."""
    return {
        "input": {
            "image_ids": list(message.image_ids),
            "names": list(message.names),
            "file_id": message.file_id or None,
            "root": message.root or None,
            "folder": message.folder,
        },
        "params": {
            "operation": message.operation,
            "options": restore_integers(MessageToDict(message.options)),
            "prompts": {
                image_id: [prompt_from_message(prompt) for prompt in prompts.prompts]
                for image_id, prompts in message.prompts.items()
            },
        },
    }


def file_job_from_message(message: jobs_pb2.Video | jobs_pb2.Volume | jobs_pb2.Tracking) -> dict[str, Any]:
    """The JSON fields `input` and `params` of `VideoIn`, `VolumeIn` or `TrackingIn`."""
    params = restore_integers(MessageToDict(message.params))
    if not isinstance(message, jobs_pb2.Tracking) and message.objects:
        params["objects"] = objects_from_messages(message.objects)
    return {"input": {"file_id": message.file_id}, "params": params}


def add_prompts_from_message(message: jobs_pb2.AddPromptsRequest) -> AddPromptsIn:
    """Raises BadInput naming the field at fault."""
    return validate_body(AddPromptsIn, orjson.dumps({"objects": objects_from_messages(message.objects)}))


def objects_from_messages(objects: Sequence[jobs_pb2.ObjectPrompts]) -> list[dict[str, Any]]:
    """The JSON of `ObjectPromptsIn` for each object. Only their numbers are checked yet. Raises BadInput."""
    check_count(objects, MAX_OBJECTS, "objects")
    for index, item in enumerate(objects):
        check_count(item.prompts, MAX_PROMPTS_PER_OBJECT, f"objects.{index}.prompts")
    return [
        {
            "object_id": item.object_id,
            "name": item.name or None,
            "prompts": [
                {"frame": prompt.frame, **prompt_from_message(prompt.prompt)} for prompt in item.prompts
            ],
        }
        for item in objects
    ]


def restore_integers(value: Any) -> Any:
    """Turn whole floats back into integers, since a Struct has no integers: 60 arrives as 60.0.

    Raises BadInput for numbers that JSON does not have.
    """
    if isinstance(value, dict):
        return {name: restore_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [restore_integers(item) for item in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise BadInput(f"{value} is not a finite number.", field="params", remedy="Send finite numbers.")
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT_FLOAT else value


def job_to_message(job: Job) -> jobs_pb2.Job:
    message = jobs_pb2.Job(
        job_id=job.job_id,
        kind=job.kind,
        model=job.model,
        priority=f"JOB_PRIORITY_{job.priority.name}",
        state=f"JOB_STATE_{job.state.name}",
        done=job.done,
        total=job.total,
        failed=job.failures,
        rate_per_s=job.rate_per_s,
        eta_s=job.eta_s,
        attempts=job.attempts,
    )
    message.object_end_count = job.object_ends.count
    for end in job.object_ends.latest:
        message.object_ends.add(
            object_id=end.object_id, frame=end.frame, last_frame=end.last_frame, reason=end.reason
        )
    if (error := job.error) is not None:
        reason = error.code.upper()
        message.error.MergeFrom(
            jobs_pb2.JobError(reason=reason, message=error.message, remedy=error.remedy, field=error.field)
        )
    for name in ("created_at", "started_at", "ended_at"):
        if (seconds := getattr(job, name)) is not None:
            getattr(message, name).FromMilliseconds(round(1000 * seconds))
    return message
