"""What batch jobs do to each image: the routes' own functions, with the routes' own options and answers."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from segserve.app import Service
from segserve.automatic.segmenter import label_by_ais
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.kinds.batch import BatchItem, BatchOperation, BatchRunner
from segserve.jobs.kinds.batch_images import BatchSources
from segserve.jobs.kinds.cell_tracking import TrackingRunner
from segserve.jobs.kinds.job_requests import AutomaticJobRequest, EngineName, check_same_model
from segserve.jobs.kinds.projection_engine import ProjectionEngine
from segserve.jobs.kinds.propagation import PropagationRunner
from segserve.jobs.kinds.sam2_memory_engine import Sam2MemoryEngine
from segserve.jobs.kinds.volume_merging import VolumeMergeRunner, VolumeRunner
from segserve.masks.label_map import Labels
from segserve.models.promptable_model import PromptableModel
from segserve.types import DEFAULT_TENANT, Prompt, Size, UInt8
from segserve.wire.operations import automatic, instances, semantic
from segserve.wire.operations import segment as ask
from segserve.wire.results import masks, objects
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.common import BasePromptIn, MaskFormat, ResultFormat, SegmentIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn

OperationName = Literal["embed", "segment", "automatic", "semantic", "instances"]
BODIES: dict[str, type[BaseModel]] = {
    "segment": SegmentIn,
    "automatic": AutomaticIn,
    "semantic": SemanticIn,
    "instances": InstancesIn,
}
# Of a job's results: whatever format somebody wants, it is made of run lengths when the results are read.
KEPT_AS = {
    "segment": MaskFormat.RLE,
    "automatic": ResultFormat.RLE,
    "semantic": SemanticFormat.RLE,
    "instances": ResultFormat.RLE,
}


def body_of(operation: str, item: BatchItem) -> dict[str, Any]:
    """The body that the operation's route would be sent for the image."""
    prompts = {"prompts": list(item.prompts)} if operation == "segment" else {}
    return {
        **item.options,
        **prompts,
        "image_id": item.image_id,
        "model": item.model,
        "format": KEPT_AS[operation].value,
    }


def operations(service: Service) -> dict[str, BatchOperation]:
    async def embed(item: BatchItem) -> Mapping[str, Any]:
        model = await service.registry.get(item.model, PromptableModel)
        await service.embeddings.ensure_encoded(item.tenant, item.image_id, model, service.new_timings())
        return {"model": model.name}

    async def segment(item: BatchItem) -> Mapping[str, Any]:
        asked = ask.validate_body(SegmentIn, orjson.dumps(body_of("segment", item)))
        answer = await ask.segment(service, asked, masks.formatter(MaskFormat.RLE), service.new_timings())
        found = masks.segmentation(answer)
        for result in found["results"]:
            for mask in result["masks"]:
                del mask["mask_id"]  # short-lived, and another each time
        return found

    async def find(item: BatchItem) -> Mapping[str, Any]:
        asked = ask.validate_body(AutomaticIn, orjson.dumps(body_of("automatic", item)))
        found = await automatic.find_objects(service, asked, service.new_timings())
        return await asyncio.to_thread(objects.objects_to_json, found, ResultFormat.RLE)

    async def classify(item: BatchItem) -> Mapping[str, Any]:
        asked = ask.validate_body(SemanticIn, orjson.dumps(body_of("semantic", item)))
        answer = await semantic.segment_semantic(service, asked, service.new_timings())
        content: dict[str, Any] = orjson.loads(answer.content)
        return content

    async def detect(item: BatchItem) -> Mapping[str, Any]:
        asked = ask.validate_body(InstancesIn, orjson.dumps(body_of("instances", item)))
        _, found = await instances.find_instances(
            service,
            asked,
            lambda found, _: objects.objects_to_json(found, ResultFormat.RLE),
            service.new_timings(),
        )
        return found

    return {
        "embed": embed,
        "segment": segment,
        "automatic": find,
        "semantic": classify,
        "instances": detect,
    }


def create_job_runners(service: Service) -> dict[JobKind, JobKindRunner]:
    """How this process does each kind of job."""
    sources = BatchSources(service.images, service.files, service.batch_roots)

    async def open_slices(job: Job, asked: AutomaticJobRequest) -> SliceReader:
        return await SliceReader.open(service.files, job.tenant, asked.view)

    async def segment(job: Job, name: str, pixels: UInt8, asked: AutomaticJobRequest) -> Labels:
        model = await service.registry.get(asked.model, PromptableModel)
        check_same_model(model.bundle, asked)
        timings = service.new_timings()
        image = await service.frame_embeddings.get_prepared(
            job.tenant, name, model, pixels, job.priority, timings
        )
        return await service.whole_image_executor.run(
            label_by_ais, model, image.embedding, image.size, asked.params, timings
        )

    settings = service.settings
    threads = settings.encode_threads
    projecting = ProjectionEngine(
        service.registry,
        service.frame_embeddings,
        service.decode_pool,
        read_prompt,
        service.new_timings,
        threads,
    )
    remembering = Sam2MemoryEngine(service.registry, read_prompt, settings.device, threads)
    following = PropagationRunner(
        service.files, {EngineName.PROJECTION: projecting, EngineName.MEMORY: remembering}
    )
    merging = VolumeMergeRunner(open_slices, segment, threads, settings.file_limits.voxels)
    return {
        JobKind.BATCH: BatchRunner(operations(service), sources, settings.batch_at_once),
        JobKind.VIDEO: following,
        JobKind.VOLUME: VolumeRunner(following, merging),
        JobKind.TRACKING: TrackingRunner(open_slices, segment, threads),
    }


def read_prompt(prompt: Mapping[str, Any], size: Size) -> Prompt:
    """What was kept of a prompt of a job."""
    return BasePromptIn.model_validate_json(orjson.dumps(prompt)).marks("prompts", size)


def example(
    operation: str, model: str, options: Mapping[str, Any], prompts: list[dict[str, Any]]
) -> BatchItem:
    """An image that stands for all of a batch, to check the options with."""
    return BatchItem(DEFAULT_TENANT, "0" * 64, model, options, prompts)
