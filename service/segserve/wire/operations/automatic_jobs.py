"""All objects of a file, without prompts: requests checked before they become jobs."""

import asyncio

from segserve.app import Service
from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput, NoAutomaticDecoder
from segserve.files.file_view import FileView, check_window, view_shape
from segserve.jobs.kinds.job_requests import TrackingRequest, VolumeMergeRequest
from segserve.models.bundle import Bundle
from segserve.models.promptable_model import AIS_DECODER_FILE
from segserve.tracking.link_tracks import LinkingParams
from segserve.types import DEFAULT_TENANT, FileKind
from segserve.wire.operations.propagation import promptable
from segserve.wire.schemas.jobs import TrackingIn, VolumeIn


async def of_volume(service: Service, asked: VolumeIn) -> VolumeMergeRequest:
    """Raises BadInput naming the field at fault, ModelNotFound, WrongModel, NoAutomaticDecoder, FileNotFound."""
    params = asked.params
    record = await service.files.record(DEFAULT_TENANT, asked.input.file_id)
    if record.kind is FileKind.VIDEO:
        raise BadInput("The file is a video.", field="input.file_id", remedy="Ask for kind 'tracking'.")
    view_shape(record, params.axis)
    check_window(record, params.window)
    bundle = await with_decoder(service, asked.model)
    return VolumeMergeRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=FileView(record.file_id, params.axis, params.window),
        params=params.automatic,
        joining=VolumeParams(params.beta, params.gap_closing, params.min_z_extent),
    )


async def of_tracking(service: Service, asked: TrackingIn) -> TrackingRequest:
    """As `of_volume`."""
    record = await service.files.record(DEFAULT_TENANT, asked.input.file_id)
    if record.kind is FileKind.VOLUME:
        raise BadInput(
            "The file is a volume.",
            field="input.file_id",
            remedy="Ask for kind 'volume' and engine 'automatic'.",
        )
    view_shape(record, 0)
    bundle = await with_decoder(service, asked.model)
    return TrackingRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=FileView(record.file_id),
        params=asked.params.params,
        joining=LinkingParams(**asked.params.linking.model_dump(exclude_none=True)),
    )


async def with_decoder(service: Service, name: str | None) -> Bundle:
    bundle = await asyncio.to_thread(promptable, service, name)
    if not bundle.has(AIS_DECODER_FILE):
        raise NoAutomaticDecoder(bundle.name)
    return bundle
