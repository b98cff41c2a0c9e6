"""Jobs, as REST and gRPC share them."""

import asyncio

import orjson

from segserve.app import Service
from segserve.errors import BadInput, ModelNotFound, WrongModel
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.kinds.batch import BatchRequest
from segserve.jobs.kinds.batch_images import BatchSource, check_zip
from segserve.jobs.kinds.job_requests import AutomaticJobRequest, PropagationRequest
from segserve.models.manifest import InstancesManifest, Manifest, PromptableManifest, SemanticManifest
from segserve.types import DEFAULT_TENANT, Priority
from segserve.wire.operations import automatic_jobs, instances, propagation, segment
from segserve.wire.operations.batch import BODIES, body_of, example
from segserve.wire.schemas.jobs import BatchIn, JobIn, TrackingIn, VideoIn, VolumeIn

NEEDS: dict[str, tuple[type[Manifest], str]] = {
    "embed": (PromptableManifest, "prompts"),
    "segment": (PromptableManifest, "prompts"),
    "automatic": (PromptableManifest, "prompts"),
    "semantic": (SemanticManifest, "classes of pixels"),
    "instances": (InstancesManifest, "objects of known classes"),
}


async def submit_job(service: Service, asked: JobIn, idempotency_key: str | None) -> Job:
    """Raises as `prepared`, `WebhookSender.check_url` and `JobQueue.submit` do."""
    queue, body = service.jobs.queue, asked.root
    if body.webhook is not None:
        service.jobs.webhook_sender.check_url(body.webhook)
    request = await prepared(service, body)
    content = await asyncio.to_thread(lambda: request.model_dump_json().encode())
    kind, priority = JobKind(body.kind), Priority(body.priority)
    return await queue.submit(
        DEFAULT_TENANT, kind, priority, request.model, content, idempotency_key, body.webhook
    )


async def prepared(
    service: Service, asked: BatchIn | VideoIn | VolumeIn | TrackingIn
) -> BatchRequest | PropagationRequest | AutomaticJobRequest:
    """What is asked, checked. Raises BadInput naming the field at fault, ModelNotFound, FileNotFound, NotAllowed."""
    match asked:
        case BatchIn():
            return await prepared_batch(service, asked)
        case VideoIn():
            return await propagation.of_video(service, asked)
        case VolumeIn() if asked.params.engine == "automatic":
            return await automatic_jobs.of_volume(service, asked)
        case VolumeIn():
            return await propagation.of_volume(service, asked)
        case TrackingIn():
            return await automatic_jobs.of_tracking(service, asked)


async def prepared_batch(service: Service, asked: BatchIn) -> BatchRequest:
    source = await source_of(service, asked)
    return await asyncio.to_thread(build, service, asked, source)


def build(service: Service, asked: BatchIn, source: BatchSource) -> BatchRequest:
    """As `prepared`. Blocks: there may be prompts for very many images."""
    request = BatchRequest(
        operation=asked.params.operation,
        model=model_for(service, asked),
        source=source,
        options=asked.params.options,
        prompts={
            name: [prompt.model_dump(mode="json", exclude_unset=True) for prompt in prompts]
            for name, prompts in asked.params.prompts.items()
        },
    )
    check_prompts(request)
    check_options(request)
    return request


async def source_of(service: Service, asked: BatchIn) -> BatchSource:
    given = asked.input
    if given.file_id is not None:
        check_zip(await service.files.record(DEFAULT_TENANT, given.file_id))
        return BatchSource(file_id=given.file_id)
    if given.root is not None:
        return BatchSource(
            root=given.root, paths=await service.batch_roots.list_pictures(given.root, given.folder)
        )
    return BatchSource(image_ids=given.image_ids, names=given.names)


def model_for(service: Service, asked: BatchIn) -> str:
    """The model that is named, or the operation's default. Raises ModelNotFound, WrongModel. Blocks."""
    operation, settings = asked.params.operation, service.settings
    if asked.model is not None:
        name = asked.model
    elif operation == "instances":
        name = instances.default_model(service)
    else:
        name = settings.default_semantic_model if operation == "semantic" else settings.default_model
    bundles = service.registry.bundles()
    if name not in bundles:
        raise ModelNotFound(name, sorted(bundles))
    needed, answers = NEEDS[operation]
    manifest = bundles[name].manifest
    if not isinstance(manifest, needed):
        raise WrongModel(name, answers, manifest.kind)
    return name


def check_prompts(request: BatchRequest) -> None:
    if request.operation != "segment":
        if request.prompts:
            raise BadInput(
                f"The operation {request.operation!r} takes no prompts.",
                field="params.prompts",
                remedy="Leave them out, or ask for operation 'segment'.",
            )
        return
    source, named = request.source, set(request.prompts)
    if not named:
        raise BadInput(
            "There are no prompts.", field="params.prompts", remedy="Send them by image_id, or by name."
        )
    if source.file_id is not None:
        return  # what is in the zip is known to the worker
    known = [source.image_ids, source.names, source.paths]
    for each in named - {name for names in known for name in names}:
        raise BadInput(
            f"There are prompts for {each!r}, which is not in the input.",
            field="params.prompts",
            remedy="Send prompts by the ids or names of the input.",
        )
    images = zip(
        source.paths or source.image_ids, source.names or source.paths or source.image_ids, strict=True
    )
    for image_id, name in images:
        if not named & {image_id, name}:
            raise BadInput(
                f"There are no prompts for {name!r}.",
                field="params.prompts",
                remedy="Send prompts for each image of the input.",
            )


def check_options(request: BatchRequest) -> None:
    """As the operation's route would check them. Raises BadInput."""
    kind = BODIES.get(request.operation)
    if kind is None:
        if request.options:
            raise BadInput(
                "The operation 'embed' takes no options.", field="params.options", remedy="Leave them out."
            )
        return
    for name in ("image_id", "model", "prompts", "format"):
        if name in request.options:
            raise BadInput(
                f"{name!r} is no option of a batch.",
                field=f"params.options.{name}",
                remedy="Images stand in input, the model beside kind, prompts in params; formats are chosen when the"
                " results are read.",
            )
    prompts = next(iter(request.prompts.values()), [])
    item = example(request.operation, request.model, request.options, prompts)
    try:
        segment.validate_body(kind, orjson.dumps(body_of(request.operation, item)))
    except TypeError as error:  # a number of more than 64 bits
        raise BadInput(
            f"The options cannot be kept: {error}.", field="params.options", remedy="Send smaller numbers."
        ) from None
    except BadInput as error:
        raise BadInput(error.message, field=f"params.options.{error.field}", remedy=error.remedy) from None
