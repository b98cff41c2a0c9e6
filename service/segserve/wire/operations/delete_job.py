"""Delete a job that has ended, or stop one that has not."""

from segserve.app import Service
from segserve.errors import MissingRight
from segserve.identity.identity import current_identity, current_tenant
from segserve.identity.rights import Right
from segserve.jobs.engine.job import Job


async def delete_job(service: Service, job_id: str, *, delete_ended: bool) -> Job | None:
    """Return the job that is stopped, or None where it had ended and is deleted with its results.

    delete_ended: False keeps a job that has ended, and returns it.

    Raises JobNotFound, MissingRight, JobsUnavailable.
    """
    queue, tenant = service.jobs.queue, current_tenant()
    if not delete_ended or not (await queue.get(tenant, job_id)).state.has_ended:
        return await queue.cancel(tenant, job_id)
    if not current_identity.get().rights & Right.DELETE:
        raise MissingRight(
            "The job has ended, and deleting its results needs the scope 'delete'.",
            remedy="Take a key with that scope.",
        )
    return await queue.delete(tenant, job_id)
