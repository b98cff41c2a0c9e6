"""Tracking jobs, all objects of every frame linked to tracks: the request is checked before it becomes a job."""

import asyncio

from segserve.app import Service
from segserve.automatic.image_scale import scale_of_slices
from segserve.errors import BadInput
from segserve.files.file_view import FileView, view_shape
from segserve.identity.identity import current_tenant
from segserve.jobs.kinds.job_requests import TrackingRequest
from segserve.models.manifest import PromptableManifest
from segserve.tracking.linking_params import DEFAULT_RAW_GAP_FRAMES, LinkingParams
from segserve.types import FileKind
from segserve.wire.operations.models import find_ais_model
from segserve.wire.schemas.tracking import LinkingIn, TrackingIn


async def check_tracking(service: Service, body: TrackingIn) -> TrackingRequest:
    """Check the request, and return it as the job keeps it.

    Raises BadInput naming the field at fault, ModelNotFound, WrongModel, NoAutomaticDecoder, FileNotFound.
    """
    record = await service.files.get_record(current_tenant(), body.input.file_id)
    if record.kind is FileKind.VOLUME:
        raise BadInput(
            "The file is a volume.",
            field="input.file_id",
            remedy="Ask for kind 'volume' and engine 'automatic'.",
        )
    _, size = view_shape(record, 0)
    bundle = await asyncio.to_thread(find_ais_model, service, body.model)
    return TrackingRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=FileView(record.file_id),
        params=body.params.params,
        scale=None if body.params.linking.raw else scale_of_slices(size, bundle.expect(PromptableManifest)),
        joining=resolve_linking(body.params.linking),
    )


def resolve_linking(linking: LinkingIn) -> LinkingParams:
    """Return the parameters as the job keeps them; laptrack has a default of its own."""
    defaults = {"gap_closing_max_frame_count": DEFAULT_RAW_GAP_FRAMES} if linking.raw else {}
    return LinkingParams(**(defaults | linking.model_dump(exclude_none=True)))
