"""A job as JSON, for the REST API and for webhooks."""

from datetime import UTC, datetime
from typing import Any

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.object_ends import end_to_json


def job_to_json(job: Job) -> dict[str, Any]:
    """Return the job in the form of the schema `JobOut`."""
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "model": job.model,
        "priority": job.priority,
        "state": job.state,
        "progress": {
            "done": job.done,
            "total": job.total,
            "failed": job.failures,
            "rate_per_s": job.rate_per_s,
            "eta_s": job.eta_s,
        },
        "object_ends": {
            "count": job.object_ends.count,
            "latest": [end_to_json(end, job.kind.index_name) for end in job.object_ends.latest],
        },
        "attempts": job.attempts,
        "error": None if job.error is None else job.error.to_problem(),
        "created_at": to_iso_time(job.created_at),
        "started_at": to_iso_time(job.started_at),
        "ended_at": to_iso_time(job.ended_at),
    }


def job_to_webhook(job: Job) -> dict[str, Any]:
    """Return the job as webhooks send it: with whose it is, since one receiver may serve several tenants."""
    return {**job_to_json(job), "tenant": job.tenant, "submitted_by": job.submitted_by or None}


def to_iso_time(seconds: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
