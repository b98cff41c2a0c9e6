"""A job for a client that waits for its end, such as a tool whose protocol knows no jobs."""

import asyncio
from contextlib import aclosing, suppress

from segserve.app import Service
from segserve.errors import BadInput, SegserveError, Unavailable
from segserve.identity.identity import current_tenant
from segserve.jobs.engine.job import Job, JobState
from segserve.wire.operations.jobs import submit_job
from segserve.wire.schemas.jobs import JobIn


async def run_job(service: Service, body: JobIn) -> Job:
    """Submit a job, wait until it has succeeded, and return it. It is cancelled where the caller is.

    Raises BadInput and Unavailable where it has not succeeded, and what `submit_job` raises.
    """
    # A task of its own: a client that leaves just now would leave a job behind that nobody knows.
    submitting = asyncio.create_task(submit_job(service, body, None))
    try:
        job = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        service.run_in_background(cancel_submitted(service, submitting))
        raise
    try:
        queue = service.jobs.queue
        async with aclosing(queue.follow(current_tenant(), job.job_id)) as changes:  # type: ignore[type-var]
            async for change in changes:
                if change is not None:
                    job = change.job
                if service.closing.is_set():  # also where changes come without a pause
                    break
    finally:
        if not job.state.has_ended:
            # In the background: where the client has left, nothing can be awaited here any more.
            service.run_in_background(cancel_job(service, job.job_id))
    if job.state is not JobState.SUCCEEDED:
        raise job_error(job)
    return job


def job_error(job: Job) -> SegserveError:
    """Return why a job has no result."""
    if job.error is None:
        return Unavailable(f"The job gave no result: it is {job.state}.", remedy="Ask again.")
    return BadInput(job.error.message, field=job.error.field, remedy=job.error.remedy or "Try again.")


async def cancel_submitted(service: Service, submitting: "asyncio.Task[Job]") -> None:
    with suppress(SegserveError):
        await cancel_job(service, (await submitting).job_id)


async def cancel_job(service: Service, job_id: str) -> None:
    with suppress(SegserveError):
        await service.jobs.queue.cancel(current_tenant(), job_id)
