"""A job as JSON: what the REST API answers and what webhooks carry."""

from datetime import UTC, datetime
from typing import Any

from segserve.jobs.engine.job import Job


def told(job: Job) -> dict[str, Any]:
    """The JSON of `JobOut`."""
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
        "attempts": job.attempts,
        "error": None if job.error is None else job.error.problem(),
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
    }


def moment(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
