"""How a worker does each kind of job: the runners of `jobs.kinds`, given the models and images of this process."""

from collections.abc import Mapping
from typing import Any

import orjson

from segserve.app import Service
from segserve.automatic.image_scale import leave_room
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.kinds.batch import BatchRunner
from segserve.jobs.kinds.batch_images import BatchSources
from segserve.jobs.kinds.cell_tracking import TrackingRunner
from segserve.jobs.kinds.job_requests import AutomaticJobRequest, EngineName, check_same_model
from segserve.jobs.kinds.label_slice import label_slice
from segserve.jobs.kinds.projection_engine import ProjectionEngine
from segserve.jobs.kinds.propagation import PropagationRunner
from segserve.jobs.kinds.sam2_memory_engine import Sam2MemoryEngine
from segserve.jobs.kinds.slice_labels import LabelledSlice
from segserve.jobs.kinds.volume_merging import VolumeMergeRunner, VolumeRunner
from segserve.models.promptable_model import PromptableModel
from segserve.types import MB, Prompt, Size, UInt8
from segserve.wire.operations.batch_image import create_image_operations
from segserve.wire.schemas.prompts import BasePromptIn


def create_job_runners(service: Service) -> dict[JobKind, JobKindRunner]:
    """The runner of each kind of job."""
    settings = service.settings
    max_picture_bytes = settings.max_image_mb * MB
    sources = BatchSources(service.images, service.files, service.batch_roots, max_picture_bytes)

    async def open_slices(job: Job, request: AutomaticJobRequest) -> SliceReader:
        return await SliceReader.open(service.files, job.tenant, request.view)

    async def segment_slice(
        job: Job, name: str, pixels: UInt8, request: AutomaticJobRequest
    ) -> LabelledSlice:
        """Find all objects of one frame or slice [H, W, 3]."""
        model = await service.registry.get(request.model, PromptableModel)
        check_same_model(model.bundle, request)
        timings = service.new_timings()
        scale = request.scale
        room = None if scale is None else leave_room(scale, model.preprocess.input_size)
        image = await service.frame_embeddings.get_prepared(
            job.tenant, name, model, pixels, job.priority, timings, region=room
        )
        return await service.whole_image_executor.run(
            label_slice, model, image, pixels, request.params, timings
        )

    threads = settings.encode_threads
    projection = ProjectionEngine(
        service.registry,
        service.frame_embeddings,
        service.decode_pool,
        read_prompt,
        service.new_timings,
        threads,
    )
    memory = Sam2MemoryEngine(service.registry, read_prompt, settings.device, threads)
    propagation = PropagationRunner(
        service.files, {EngineName.PROJECTION: projection, EngineName.MEMORY: memory}
    )
    merge = VolumeMergeRunner(open_slices, segment_slice, threads, settings.file_limits.max_voxels)
    return {
        JobKind.BATCH: BatchRunner(create_image_operations(service), sources, settings.batch_at_once),
        JobKind.VIDEO: propagation,
        JobKind.VOLUME: VolumeRunner(propagation, merge),
        JobKind.TRACKING: TrackingRunner(open_slices, segment_slice, threads),
    }


def read_prompt(prompt: Mapping[str, Any], size: Size) -> Prompt:
    """Convert a prompt as a job keeps it. size: of the frame."""
    return BasePromptIn.model_validate_json(orjson.dumps(prompt)).to_prompt("prompts", size)
