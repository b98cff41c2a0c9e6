"""Volume jobs with the engine automatic, all objects of a volume: the request is checked before it becomes a job."""

import asyncio

from segserve.app import Service
from segserve.automatic.image_scale import scale_of_slices
from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput
from segserve.files.file_view import FileView, check_window, view_shape
from segserve.identity.identity import current_tenant
from segserve.jobs.kinds.job_requests import VolumeMergeRequest
from segserve.models.manifest import PromptableManifest
from segserve.types import FileKind
from segserve.wire.operations.models import find_ais_model
from segserve.wire.schemas.propagation import VolumeIn, VolumeParamsIn

# By default, what is on one slice only is no object, nor what has less than a twentieth of the median object's voxels.
MIN_Z_EXTENT = 2
MIN_SIZE_SHARE = 0.05


async def check_automatic_volume(service: Service, body: VolumeIn) -> VolumeMergeRequest:
    """Check the request, and return it as the job keeps it.

    Raises BadInput naming the field at fault, ModelNotFound, WrongModel, NoAutomaticDecoder, FileNotFound.
    """
    params = body.params
    record = await service.files.get_record(current_tenant(), body.input.file_id)
    if record.kind is FileKind.VIDEO:
        raise BadInput("The file is a video.", field="input.file_id", remedy="Ask for kind 'tracking'.")
    slices, size = view_shape(record, params.axis)
    check_window(record, params.window)
    bundle = await asyncio.to_thread(find_ais_model, service, body.model)
    return VolumeMergeRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=FileView(record.file_id, params.axis, params.window),
        params=params.automatic,
        scale=None if params.raw else scale_of_slices(size, bundle.expect(PromptableManifest)),
        joining=resolve_joining(params, slices),
    )


def resolve_joining(params: VolumeParamsIn, slices: int) -> VolumeParams:
    """Return the parameters as the job keeps them. slices: of the volume; an object cannot be on more.

    With `raw` everything stays that μSAM keeps, but for what the request names.
    """
    if params.raw:
        min_contrast = params.min_contrast if "min_contrast" in params.model_fields_set else 0.0
        return VolumeParams(
            params.beta, params.gap_closing, params.min_z_extent, params.min_size_share or 0.0, min_contrast
        )
    min_z_extent = min(MIN_Z_EXTENT, slices) if params.min_z_extent is None else params.min_z_extent
    min_size_share = MIN_SIZE_SHARE if params.min_size_share is None else params.min_size_share
    return VolumeParams(params.beta, params.gap_closing, min_z_extent, min_size_share, params.min_contrast)
