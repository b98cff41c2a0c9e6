"""Objects to follow through a file: requests checked against the file before they become jobs."""

import asyncio

import orjson

from segserve.app import Service
from segserve.decode.segmenter import check_prompt_coordinates
from segserve.errors import BadInput, ModelNotFound, TooLarge, WrongModel
from segserve.files.file_view import FileView, check_window, view_shape
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.kinds.job_requests import EngineName, PromptOnSlice, PropagationRequest, RequestedObject
from segserve.jobs.kinds.propagation_plan import count_kept_chunks
from segserve.models.bundle import WEIGHTS_FILE, Bundle
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.types import DEFAULT_TENANT, FileKind, FileRecord, Select
from segserve.wire.operations import reference_prompts
from segserve.wire.schemas.jobs import VideoIn, VolumeIn
from segserve.wire.schemas.propagation import (
    MAX_OBJECTS,
    MAX_PROMPTS_PER_OBJECT,
    AddPromptsIn,
    ObjectPromptsIn,
    PropagationParamsIn,
)

MOST_STEPS = 1_000_000  # objects times frames: their plan takes seconds and some hundred MB


async def of_video(service: Service, asked: VideoIn) -> PropagationRequest:
    """What is asked, checked. Raises BadInput naming the field at fault, ModelNotFound, WrongModel, FileNotFound."""
    record = await service.files.record(DEFAULT_TENANT, asked.input.file_id)
    if record.kind is FileKind.VOLUME:
        raise BadInput("The file is a volume.", field="input.file_id", remedy="Ask for kind 'volume'.")
    view = FileView(record.file_id)
    return await checked(
        service, asked.model, asked.params.engine, record, view, asked.params, asked.params.objects
    )


async def of_volume(service: Service, asked: VolumeIn) -> PropagationRequest:
    """As `of_video`."""
    params = asked.params
    record = await service.files.record(DEFAULT_TENANT, asked.input.file_id)
    if record.kind is FileKind.VIDEO:
        raise BadInput("The file is a video.", field="input.file_id", remedy="Ask for kind 'video'.")
    view = FileView(record.file_id, params.axis, params.window)
    view_shape(record, params.axis)
    check_window(record, params.window)
    objects = params.objects
    if params.reference is not None:
        objects = await reference_prompts.objects(service.files, record, params.axis, params.reference)
    engine = None if params.engine is None else EngineName(params.engine)
    return await checked(service, asked.model, engine, record, view, params, objects)


async def checked(
    service: Service,
    model: str | None,
    engine: EngineName | None,
    record: FileRecord,
    view: FileView,
    params: PropagationParamsIn,
    objects: list[ObjectPromptsIn],
) -> PropagationRequest:
    bundle = await asyncio.to_thread(promptable, service, model)
    await asyncio.to_thread(check_objects, objects, record, view.axis)
    request = PropagationRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=view,
        engine=engine_for(bundle, engine),
        direction=params.direction,
        objects=[asked_of(each, 0) for each in objects],
        select=Select(params.select),
        image_size=params.image_size,
        projection=params.projection,
        iou_threshold=params.iou_threshold,
        min_score=params.min_score,
        box_extension=params.box_extension,
    )
    check_extent(request, view_shape(record, view.axis)[0])
    return request


def promptable(service: Service, model: str | None) -> Bundle:
    """Blocks. Raises ModelNotFound, WrongModel."""
    name, bundles = model or service.settings.default_model, service.registry.bundles()
    if name not in bundles:
        raise ModelNotFound(name, sorted(bundles))
    if not isinstance(bundles[name].manifest, PromptableManifest):
        raise WrongModel(name, "prompts", bundles[name].manifest.kind)
    return bundles[name]


def engine_for(bundle: Bundle, engine: EngineName | None) -> EngineName:
    """Raises BadInput where the model cannot do what is asked."""
    remembers = bundle.manifest.kind == ModelKind.SAM2 and bundle.has(WEIGHTS_FILE)
    if engine is EngineName.MEMORY and not remembers:
        raise BadInput(
            f"The model {bundle.name!r} has no memory.",
            field="params.engine",
            remedy="Ask for 'projection', or for a SAM 2 that was imported with --keep-weights.",
        )
    return engine or (EngineName.MEMORY if remembers else EngineName.PROJECTION)


def check_objects(
    objects: list[ObjectPromptsIn], record: FileRecord, axis: int, field: str = "params.objects"
) -> None:
    """Blocks where there are masks. Raises BadInput."""
    count, size = view_shape(record, axis)
    seen = set[int]()
    for number, each in enumerate(objects):
        if each.object_id in seen:
            raise BadInput(
                f"Object {each.object_id} is there twice.",
                field=f"{field}.{number}.object_id",
                remedy="Send all prompts of an object together.",
            )
        seen.add(each.object_id)
        for place, prompt in enumerate(each.prompts):
            where = f"{field}.{number}.prompts.{place}"
            if prompt.at >= count:
                raise BadInput(
                    f"There is no frame {prompt.at}: the file has {count}.",
                    field=f"{where}.{'slice' if prompt.frame is None else 'frame'}",
                    remedy=f"Send one from 0 to {count - 1}.",
                )
            check_prompt_coordinates(prompt.marks(where, size), size, where)


def check_extent(request: PropagationRequest, count: int, field: str = "params.objects") -> None:
    """What all that was asked comes to. count: of slices. Raises BadInput, TooLarge."""
    most = max((len(each.prompts) for each in request.objects), default=0)
    if (
        len(request.objects) > MAX_OBJECTS
        or most > MAX_PROMPTS_PER_OBJECT
        or len(request.objects) * count > MOST_STEPS
    ):
        raise TooLarge(
            f"It is {len(request.objects)} objects through {count} frames, with up to {most} prompts each.",
            field=field,
            remedy=f"Send at most {MAX_OBJECTS} objects in a job and {MAX_PROMPTS_PER_OBJECT} prompts for each; objects"
            f" times frames may be at most {MOST_STEPS}.",
        )
    if request.engine is EngineName.PROJECTION:
        for each in request.objects:
            for at in {prompt.slice for prompt in each.prompts}:
                check_marked(each, at, field)


def check_marked(each: RequestedObject, at: int, field: str) -> None:
    """By projection a frame with prompts is looked at by itself. Raises BadInput."""
    prompts = [prompt.prompt for prompt in each.prompts if prompt.slice == at]
    if not any(
        prompt.get("box") or prompt.get("mask") or 1 in (prompt.get("labels") or [1]) for prompt in prompts
    ):
        raise BadInput(
            f"Object {each.object_id} has nothing but negative points on frame {at}.",
            field=field,
            remedy="Send a positive point on it or a box around it as well, on the same frame.",
        )


def asked_of(each: ObjectPromptsIn, revision: int) -> RequestedObject:
    return RequestedObject(
        object_id=each.object_id,
        prompts=[
            PromptOnSlice(
                slice=prompt.at,
                prompt=prompt.model_dump(mode="json", exclude={"frame", "slice"}, exclude_unset=True),
                revision=revision,
            )
            for prompt in each.prompts
        ],
    )


async def revise(service: Service, job_id: str, asked: AddPromptsIn) -> Job:
    """Add objects and corrections to a job; what follows them is made again. Raises JobNotFound, BadInput, Busy."""
    queue = service.jobs.queue
    job = await queue.get(DEFAULT_TENANT, job_id)
    if job.kind not in (JobKind.VIDEO, JobKind.VOLUME):
        raise BadInput(
            f"A {job.kind} job takes no prompts.",
            field="job_id",
            remedy="Send a job of kind video or volume.",
        )
    content = await queue.read_request(job)
    if orjson.loads(content)["engine"] not in list(EngineName):
        raise BadInput(
            "The job finds all objects by itself.", field="job_id", remedy="Submit one with objects."
        )
    before = PropagationRequest.model_validate_json(content)
    record = await service.files.record(DEFAULT_TENANT, before.view.file_id)
    await asyncio.to_thread(check_objects, asked.objects, record, before.view.axis, "objects")
    added = [asked_of(each, job.revision + 1) for each in asked.objects]
    after = before.model_copy(update={"objects": joined(before.objects, added)})
    count, _ = view_shape(record, before.view.axis)
    check_extent(after, count, "objects")
    keep = await asyncio.to_thread(count_kept_chunks, before, after, count)
    return await queue.revise(job, after.model_dump_json().encode(), keep)


def joined(before: list[RequestedObject], added: list[RequestedObject]) -> list[RequestedObject]:
    """What is added to an object stands after what was asked of it before."""
    known = {each.object_id: each for each in before}
    for each in added:
        if (old := known.get(each.object_id)) is not None:
            each = old.model_copy(update={"prompts": [*old.prompts, *each.prompts]})
        known[each.object_id] = each
    return list(known.values())
