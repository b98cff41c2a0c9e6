"""Video and volume jobs, objects followed from frame to frame: the request is checked before it becomes a job."""

import asyncio

from segserve.app import Service
from segserve.decode.check_prompt import check_prompt_coordinates
from segserve.errors import BadInput, TooLarge
from segserve.files.file_view import FileView, check_window, view_shape
from segserve.identity.identity import current_tenant
from segserve.jobs.kinds.job_requests import EngineName, PromptOnSlice, PropagationRequest, RequestedObject
from segserve.models.bundle import Bundle
from segserve.types import FileKind, FileRecord, Select
from segserve.wire.operations.models import find_promptable, list_engines
from segserve.wire.operations.reference_prompts import read_reference_prompts
from segserve.wire.schemas.propagation import (
    MAX_OBJECTS,
    MAX_PROMPTS_PER_OBJECT,
    ObjectPromptsIn,
    PropagationParamsIn,
    VideoIn,
    VolumeIn,
)

# Objects times frames. Planning this many takes seconds and some hundred MB.
MAX_STEPS = 1_000_000


async def check_video(service: Service, body: VideoIn) -> PropagationRequest:
    """Check the request, and return it as the job keeps it.

    Raises BadInput naming the field at fault, TooLarge, ModelNotFound, WrongModel, FileNotFound.
    """
    record = await service.files.get_record(current_tenant(), body.input.file_id)
    if record.kind is FileKind.VOLUME:
        raise BadInput("The file is a volume.", field="input.file_id", remedy="Ask for kind 'volume'.")
    params = body.params
    return await check_propagation(
        service, body.model, params.engine, record, FileView(record.file_id), params, params.objects
    )


async def check_volume(service: Service, body: VolumeIn) -> PropagationRequest:
    """As `check_video`."""
    params = body.params
    record = await service.files.get_record(current_tenant(), body.input.file_id)
    if record.kind is FileKind.VIDEO:
        raise BadInput("The file is a video.", field="input.file_id", remedy="Ask for kind 'video'.")
    view = FileView(record.file_id, params.axis, params.window)
    view_shape(record, params.axis)
    check_window(record, params.window)
    objects = params.objects
    if params.reference is not None:
        objects = await read_reference_prompts(service.files, record, params.axis, params.reference)
    engine = None if params.engine is None else EngineName(params.engine)
    return await check_propagation(service, body.model, engine, record, view, params, objects)


async def check_propagation(
    service: Service,
    model: str | None,
    engine: EngineName | None,
    record: FileRecord,
    view: FileView,
    params: PropagationParamsIn,
    objects: list[ObjectPromptsIn],
) -> PropagationRequest:
    """Check model, engine, prompts and size of a job on the frames that `view` shows of a file."""
    bundle = await asyncio.to_thread(find_promptable, service, model)
    await asyncio.to_thread(check_object_prompts, objects, record, view.axis)
    request = PropagationRequest(
        model=bundle.name,
        digest=bundle.digest,
        view=view,
        engine=choose_engine(bundle, engine),
        direction=params.direction,
        objects=[to_stored_prompts(item, revision=0) for item in objects],
        select=Select(params.select),
        raw=params.raw,
        image_size=params.image_size,
        projection=params.projection,
        iou_threshold=params.iou_threshold,
        min_score=params.min_score,
        box_extension=params.box_extension,
        min_contrast=params.min_contrast,
        min_likeness=params.min_likeness,
        max_move=params.max_move,
        min_step_likeness=params.min_step_likeness,
        max_overlap=params.max_overlap,
        max_gap=params.max_gap,
    )
    check_job_size(request, view_shape(record, view.axis)[0])
    return request


def choose_engine(bundle: Bundle, engine: EngineName | None) -> EngineName:
    """The engine of the request, or the best one that the model can do. Raises BadInput where it cannot do it."""
    engines = list_engines(bundle)
    if engine is EngineName.MEMORY and engine not in engines:
        raise BadInput(
            f"The model {bundle.name!r} has no memory.",
            field="params.engine",
            remedy="Ask for 'projection', or for a SAM 2 that was imported with --keep-weights.",
        )
    return engine or engines[0]


def check_object_prompts(
    objects: list[ObjectPromptsIn], record: FileRecord, axis: int, field: str = "params.objects"
) -> None:
    """Check that ids are unique, frames exist, and coordinates and masks fit the frames. Blocks where there are masks.

    field: path of `objects` in the request.

    Raises BadInput.
    """
    count, size = view_shape(record, axis)
    ids = set[int]()
    for number, item in enumerate(objects):
        if item.object_id in ids:
            raise BadInput(
                f"Object {item.object_id} is there twice.",
                field=f"{field}.{number}.object_id",
                remedy="Send all prompts of an object together.",
            )
        ids.add(item.object_id)
        for position, prompt in enumerate(item.prompts):
            path = f"{field}.{number}.prompts.{position}"
            if prompt.index >= count:
                raise BadInput(
                    f"There is no frame {prompt.index}: the file has {count}.",
                    field=f"{path}.{'slice' if prompt.frame is None else 'frame'}",
                    remedy=f"Send one from 0 to {count - 1}.",
                )
            check_prompt_coordinates(prompt.to_prompt(path, size), size, path)


def check_job_size(request: PropagationRequest, count: int, field: str = "params.objects") -> None:
    """Check that the job is not too large, and that its engine can use the prompts.

    count: frames of the file. field: path of the objects in the request.

    Raises BadInput, TooLarge.
    """
    objects = request.objects
    max_prompts = max((len(item.prompts) for item in objects), default=0)
    if len(objects) > MAX_OBJECTS or max_prompts > MAX_PROMPTS_PER_OBJECT or len(objects) * count > MAX_STEPS:
        raise TooLarge(
            f"It is {len(objects)} objects through {count} frames, with up to {max_prompts} prompts each.",
            field=field,
            remedy=f"Send at most {MAX_OBJECTS} objects in a job and {MAX_PROMPTS_PER_OBJECT} prompts for each; objects"
            f" times frames may be at most {MAX_STEPS}.",
        )
    if request.engine is EngineName.PROJECTION:
        for item in objects:
            for frame in {prompt.slice for prompt in item.prompts}:
                check_positive_prompt(item, frame, field)


def check_positive_prompt(item: RequestedObject, frame: int, field: str) -> None:
    """Check that the object has a positive prompt on the frame. The engine projection segments a frame with prompts
    by these alone. Raises BadInput."""
    prompts = [prompt.prompt for prompt in item.prompts if prompt.slice == frame]
    if not any(
        prompt.get("box") or prompt.get("mask") or 1 in (prompt.get("labels") or [1]) for prompt in prompts
    ):
        raise BadInput(
            f"Object {item.object_id} has only negative points on frame {frame}.",
            field=field,
            remedy="Send a positive point on it or a box around it as well, on the same frame.",
        )


def to_stored_prompts(item: ObjectPromptsIn, revision: int) -> RequestedObject:
    """The prompts of an object as the job keeps them. revision: of the job, when they were sent."""
    return RequestedObject(
        object_id=item.object_id,
        name=item.name,
        prompts=[
            PromptOnSlice(
                slice=prompt.index,
                prompt=prompt.model_dump(mode="json", exclude={"frame", "slice"}, exclude_unset=True),
                revision=revision,
            )
            for prompt in item.prompts
        ],
    )
