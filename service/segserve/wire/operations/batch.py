"""Batch jobs, one operation on each of many images: the request is checked before it becomes a job."""

import asyncio
from collections.abc import Set
from typing import Any

import orjson

from segserve.app import Service
from segserve.errors import BadInput, ModelNotFound, WrongModel, quote
from segserve.identity.identity import current_tenant
from segserve.jobs.kinds.batch import BatchItem, BatchRequest
from segserve.jobs.kinds.batch_images import BatchSource, check_zip
from segserve.models.manifest import InstancesManifest, Manifest, PromptableManifest, SemanticManifest
from segserve.wire.operations import similar
from segserve.wire.operations.batch_image import BODIES, create_body
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.models import default_instances_model, find_own_method
from segserve.wire.schemas.batch import BatchIn
from segserve.wire.schemas.prompts import PromptIn

# The kind of model that each operation needs, and what models of this kind answer.
NEEDS: dict[str, tuple[type[Manifest], str]] = {
    "embed": (PromptableManifest, "prompts"),
    "segment": (PromptableManifest, "prompts"),
    "automatic": (PromptableManifest, "prompts"),
    "similar": (PromptableManifest, "prompts"),
    "semantic": (SemanticManifest, "classes of pixels"),
    "instances": (InstancesManifest, "objects of known classes"),
}
# Fields of a route's body that a batch has elsewhere.
RESERVED_OPTIONS = ("image_id", "model", "prompts", "format")


async def check_batch(service: Service, body: BatchIn) -> tuple[str, bytes]:
    """Check the request, and return its model and the JSON as the job keeps it. Takes the prompts out of `body`.

    Raises BadInput naming the field at fault, ModelNotFound, WrongModel, FileNotFound, NotAllowed.
    """
    source = await find_source(service, body)
    if body.params.operation == "similar":
        await check_examples(service, body.params.options)
    return await asyncio.to_thread(build_request, service, body, source)


async def check_examples(service: Service, options: dict[str, Any]) -> None:
    """Check that the examples of a search are on an image that exists, and last as long as the job.

    Raises BadInput, ImageNotFound.
    """
    name, image_id = "params.options.example_image_id", options.get("example_image_id")
    if not isinstance(image_id, str):
        raise BadInput(
            "A batch does not say which image the examples are on.",
            field=name,
            remedy="Send the image_id of the image with the examples.",
        )
    await similar.check_example_image(service, image_id, name)
    examples = options.get("examples")
    for index, example in enumerate(examples if isinstance(examples, list) else []):
        if isinstance(example, dict) and example.get("mask_id") is not None:
            raise BadInput(
                "A mask_id may expire before the job runs.",
                field=f"params.options.examples.{index}.mask_id",
                remedy="Send the mask itself as 'mask'.",
            )


async def find_source(service: Service, body: BatchIn) -> BatchSource:
    """Where the images of the batch come from. Raises FileNotFound, BadInput, NotAllowed, TooLarge."""
    images = body.input
    if images.file_id is not None:
        check_zip(await service.files.get_record(current_tenant(), images.file_id))
        return BatchSource(file_id=images.file_id)
    if images.root is not None:
        return BatchSource(
            root=images.root, paths=await service.batch_roots.list_pictures(images.root, images.folder)
        )
    return BatchSource(image_ids=images.image_ids, names=images.names)


def build_request(service: Service, body: BatchIn, source: BatchSource) -> tuple[str, bytes]:
    """Check model, prompts and options. Blocks, since there may be prompts for 100,000 images.

    Raises BadInput, ModelNotFound, WrongModel.
    """
    prompts, operation = body.params.prompts, body.params.operation
    model = choose_model(service, body)
    check_prompts(operation, source, prompts.keys())
    options = body.params.options
    if operation == "automatic" and options.get("method") is None:
        options = {**options, "method": find_own_method(service, model)}
    first = [dump_prompt(prompt) for prompt in next(iter(prompts.values()), [])]
    request = BatchRequest(operation=operation, model=model, source=source, options=options, prompts={})
    check_options(request, first)
    return model, write_request(request, prompts)


def dump_prompt(prompt: PromptIn) -> dict[str, Any]:
    return prompt.model_dump(mode="json", exclude_unset=True)


def write_request(request: BatchRequest, prompts: dict[str, list[PromptIn]]) -> bytes:
    """Return the JSON of a request with these prompts, which are taken out one by one.

    Written or freed all together they would hold Python's lock for long.
    """
    parts = []
    while prompts:
        name, image_prompts = prompts.popitem()
        dumped = orjson.dumps({name: [dump_prompt(prompt) for prompt in image_prompts]})
        parts.append(dumped[1:-1])
    head = orjson.dumps(request.model_dump(exclude={"prompts"}))
    return head[:-1] + b',"prompts":{' + b",".join(reversed(parts)) + b"}}"


def choose_model(service: Service, body: BatchIn) -> str:
    """The model of the request, or the operation's default. Blocks. Raises BadInput, ModelNotFound, WrongModel."""
    operation, settings = body.params.operation, service.settings
    if body.model is not None:
        name = body.model
    elif operation == "instances":
        name = default_instances_model(service)
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


def check_prompts(operation: str, source: BatchSource, prompted: Set[str]) -> None:
    """Check that the operation takes prompts, and that they are for the images of the batch.

    prompted: ids or names of the images with prompts. Raises BadInput.
    """
    if operation != "segment":
        if prompted:
            raise BadInput(
                f"The operation {operation!r} takes no prompts.",
                field="params.prompts",
                remedy="Leave them out, or ask for operation 'segment'.",
            )
        return
    if not prompted:
        raise BadInput(
            "There are no prompts.", field="params.prompts", remedy="Send them by image_id, or by name."
        )
    if source.file_id is None:  # only the worker opens the zip and knows its pictures
        check_prompt_names(source, prompted)


def check_prompt_names(source: BatchSource, prompted: Set[str]) -> None:
    """Check that each image has prompts, and that all prompts are for an image. Raises BadInput."""
    images = {*source.image_ids, *source.names, *source.paths}
    for name in prompted:
        if name not in images:
            raise BadInput(
                f"There are prompts for {quote(name)}, which is not in the input.",
                field="params.prompts",
                remedy="Send prompts by the ids or names of the input.",
            )
    ids = source.paths or source.image_ids
    for image_id, name in zip(ids, source.names or ids, strict=True):
        if image_id not in prompted and name not in prompted:
            raise BadInput(
                f"There are no prompts for {quote(name)}.",
                field="params.prompts",
                remedy="Send prompts for each image of the input.",
            )


def check_options(request: BatchRequest, prompts: list[dict[str, Any]]) -> None:
    """Check the options as the operation's route would, with an image that stands for all.

    prompts: of that image. Raises BadInput.
    """
    schema = BODIES.get(request.operation)
    if schema is None:
        if request.options:
            raise BadInput(
                "The operation 'embed' takes no options.", field="params.options", remedy="Leave them out."
            )
        return
    for name in RESERVED_OPTIONS:
        if name in request.options:
            raise BadInput(
                f"{name!r} is no option of a batch.",
                field=f"params.options.{name}",
                remedy="Send images in input, the model beside kind, and prompts in params. The format is chosen when"
                " the results are read.",
            )
    example = BatchItem(current_tenant(), "0" * 64, request.model, request.options, prompts)
    try:
        validate_body(schema, orjson.dumps(create_body(request.operation, example)))
    except TypeError as error:  # a number of more than 64 bits
        raise BadInput(
            f"The options cannot be kept: {error}.", field="params.options", remedy="Send smaller numbers."
        ) from None
    except BadInput as error:
        raise BadInput(error.message, field=f"params.options.{error.field}", remedy=error.remedy) from None
