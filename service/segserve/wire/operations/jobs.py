"""Jobs, as REST and gRPC submit them."""

import asyncio

from segserve.app import Service
from segserve.identity.identity import current_identity, current_tenant
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.kinds.job_requests import AutomaticJobRequest, PropagationRequest
from segserve.types import AccessRole, Priority
from segserve.wire.operations import automatic_volume, batch, propagation, tracking
from segserve.wire.schemas.batch import BatchIn
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import VideoIn, VolumeIn
from segserve.wire.schemas.tracking import TrackingIn


async def submit_job(service: Service, request: JobIn, idempotency_key: str | None) -> Job:
    """Check a request, and put it into the queue. Jobs of the role `batch` are behind interactive ones.

    Raises as `check_job`, `WebhookSender.check_url` and `JobQueue.submit` do.
    """
    body = request.root
    if body.webhook is not None:
        service.jobs.webhook_sender.check_url(body.webhook)
    model, content = await check_job(service, body)
    return await service.jobs.queue.submit(
        current_tenant(),
        JobKind(body.kind),
        Priority.BATCH if current_identity.get().role is AccessRole.BATCH else Priority(body.priority),
        model,
        content,
        idempotency_key,
        body.webhook,
    )


async def check_job(service: Service, body: BatchIn | VideoIn | VolumeIn | TrackingIn) -> tuple[str, bytes]:
    """Check a request, and return its model and the JSON as the job keeps it.

    Raises BadInput naming the field at fault, ModelNotFound, WrongModel, FileNotFound, NotAllowed.
    """
    request: PropagationRequest | AutomaticJobRequest
    match body:
        case BatchIn():
            return await batch.check_batch(service, body)
        case VideoIn():
            request = await propagation.check_video(service, body)
        case VolumeIn() if body.params.engine == "automatic":
            request = await automatic_volume.check_automatic_volume(service, body)
        case VolumeIn():
            request = await propagation.check_volume(service, body)
        case TrackingIn():
            request = await tracking.check_tracking(service, body)
    return request.model, await asyncio.to_thread(lambda: request.model_dump_json().encode())
