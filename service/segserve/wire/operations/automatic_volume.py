"""Volume jobs with the engine automatic, all objects of a volume: the request is checked before it becomes a job."""

import asyncio

from segserve.app import Service
from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput
from segserve.files.file_view import FileView, check_window, view_shape
from segserve.jobs.kinds.job_requests import VolumeMergeRequest
from segserve.types import DEFAULT_TENANT, FileKind
from segserve.wire.operations.models import find_ais_model
from segserve.wire.schemas.propagation import VolumeIn


async def check_automatic_volume(service: Service, body: VolumeIn) -> VolumeMergeRequest:
    """Check the request, and return it as the job keeps it.

    Raises BadInput naming the field at fault, ModelNotFound, WrongModel, NoAutomaticDecoder, FileNotFound.
    """
    params = body.params
    record = await service.files.get_record(DEFAULT_TENANT, body.input.file_id)
    if record.kind is FileKind.VIDEO:
        raise BadInput("The file is a video.", field="input.file_id", remedy="Ask for kind 'tracking'.")
    view_shape(record, params.axis)
    check_window(record, params.window)
    bundle = await asyncio.to_thread(find_ais_model, service, body.model)
    return VolumeMergeRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=FileView(record.file_id, params.axis, params.window),
        params=params.automatic,
        joining=VolumeParams(params.beta, params.gap_closing, params.min_z_extent),
    )
