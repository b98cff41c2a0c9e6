"""An inference: the image and the prompts of a request become a call of the API's own operations."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from segserve.app import Service
from segserve.errors import BadInput, NotFound, TooLarge
from segserve.identity.identity import current_tenant
from segserve.masks import crop, label_map
from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, Manifest, SemanticManifest
from segserve.types import MB, Candidate, ImageObjects, ImageRecord
from segserve.wire.frontends.open_inference import model_tensors as specs
from segserve.wire.frontends.open_inference.tensors import Tensor, bad_tensor, text_tensor
from segserve.wire.frontends.sent_images import SentImages, run_if_large
from segserve.wire.operations import automatic, instances, segment, semantic
from segserve.wire.operations.common import validate_body
from segserve.wire.results.masks import logits_to_json
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.prompts import MAX_POINTS, MAX_PROMPTS
from segserve.wire.schemas.segment import SegmentIn
from segserve.wire.schemas.semantic import SemanticIn

# Masks of an answer together, a byte for each pixel.
MAX_MASK_BYTES = 128 * MB
NO_POINT = -1  # a label
SEMANTIC_PARAMETERS = ("threshold", "overlap", "tta_flips")
INSTANCE_PARAMETERS = ("score_threshold", "nms_threshold", "mask_threshold", "max_objects")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class InferRequest:
    """inputs: by name. outputs: the names of those asked for; empty for all. parameters: of the request."""

    model: str
    version: str
    inputs: Mapping[str, Tensor]
    outputs: Collection[str]
    parameters: Mapping[str, Any]


class Stages:
    """`Stages` adds up the seconds of the stages of an inference."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("all", "input", "infer", "output"), 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


class Inference:
    """`Inference` runs requests on models of every kind."""

    def __init__(self, service: Service, sent_images: SentImages) -> None:
        self._service, self._sent_images = service, sent_images

    async def run(self, request: InferRequest, write: Callable[[list[Tensor]], Answer]) -> Answer:
        """Return what `write` makes of the answer's tensors, in a thread.

        Raises BadInput naming the tensor at fault, TooLarge, NotFound, and what the operations raise.
        """
        bundle = await find_bundle(self._service, request.model, request.version)
        stages, outcome = Stages(), "fail"
        try:
            with stages.stage("all"):
                tensors = await self._infer(bundle.manifest, request, stages)
                with stages.stage("output"):
                    answer = await asyncio.to_thread(write, tensors)
            outcome = "success"
            return answer
        finally:
            self._service.metrics.frontends.record_inference(request.model, outcome, stages.seconds)

    async def _infer(self, manifest: Manifest, request: InferRequest, stages: Stages) -> list[Tensor]:
        check_names(request.inputs, [spec.name for spec in specs.list_inputs(manifest)], "inputs")
        check_names(request.outputs, [spec.name for spec in specs.list_outputs(manifest)], "outputs")
        with stages.stage("input"):
            image = await self._store_image(request.inputs)
        with stages.stage("infer"):
            match manifest:
                case SemanticManifest():
                    tensors = await self._segment_semantic(request, image)
                case InstancesManifest():
                    tensors = await self._find_instances(request, image, manifest)
                case _ if any(spec.name in request.inputs for spec in specs.PROMPTS):
                    tensors = await self._segment_prompts(request, image)
                case _:
                    tensors = await self._find_objects(request, image)
        tensors[specs.IMAGE_ID.name] = text_tensor(specs.IMAGE_ID.name, [image.image_id])
        return [tensors[name] for name in choose_outputs(request, tensors)]

    async def _store_image(self, inputs: Mapping[str, Tensor]) -> ImageRecord:
        """Raises BadInput unless there is one image."""
        given = [spec.name for spec in specs.IMAGES if spec.name in inputs]
        if len(given) != 1:
            raise BadInput(
                f"There are {len(given)} images.",
                field="inputs",
                remedy="Send one of image (pixels), image_file (a PNG or the like) and image_id.",
            )
        tensor = inputs[given[0]]
        if given[0] == specs.IMAGE.name:
            return await self._sent_images.store_pixels(check_pixels(tensor))
        if tensor.datatype != specs.IMAGE_FILE.datatype or tensor.values.size != 1:
            raise bad_tensor(tensor.name, "it is not one element of BYTES.", "Send one.")
        data: bytes = tensor.values.ravel()[0]
        if given[0] == specs.IMAGE_FILE.name:
            return await self._sent_images.store_bytes(data)
        return await self._service.images.get_record(current_tenant(), data.decode("utf-8", "replace"))

    async def _segment_prompts(self, request: InferRequest, image: ImageRecord) -> dict[str, Tensor]:
        has_all = request.parameters.get("multimask_output") is True
        wants_masks = is_wanted(request, specs.MASKS.name)

        def build() -> SegmentIn:
            prompts = build_prompts(request.inputs)
            if wants_masks:
                count = len(prompts) * (3 if has_all else 1)
                check_mask_bytes(count * image.size.height * image.size.width, specs.LOW_RES_MASKS.name)
            body = {
                "image_id": image.image_id,
                "model": request.model,
                "prompts": prompts,
                "multimask": request.parameters.get("multimask_output"),
                "select": "all" if has_all else "best",
                "raw": request.parameters.get("raw", False),
            }
            return validate_body(SegmentIn, orjson.dumps(body))

        given = [request.inputs[spec.name] for spec in specs.PROMPTS if spec.name in request.inputs]
        asked = await run_if_large(sum(tensor.values.nbytes for tensor in given), build)

        def render(candidate: Candidate) -> NDArray[np.bool_] | None:
            return crop.to_mask(candidate.crop) if wants_masks else None

        result = await segment.segment(self._service, asked, render, self._service.new_timings())

        def stack() -> dict[str, Tensor]:
            candidates = [[mask.candidate for mask in masks] for masks in result.results]
            tensors = {
                specs.IOU_PREDICTIONS.name: np.array(
                    [[c.score for c in row] for row in candidates], np.float32
                ),
                specs.LOW_RES_MASKS.name: np.array(
                    [[c.logits for c in row] for row in candidates], np.float32
                ),
            }
            if wants_masks:
                tensors[specs.MASKS.name] = np.array(
                    [[mask.rendered for mask in masks] for masks in result.results]
                )
            return to_tensors(tensors, specs.PROMPT_OUTPUTS)

        return await asyncio.to_thread(stack)

    async def _find_objects(self, request: InferRequest, image: ImageRecord) -> dict[str, Tensor]:
        body = {"image_id": image.image_id, "model": request.model, "format": "npy"}
        result = await automatic.find_objects(
            self._service, validate_body(AutomaticIn, orjson.dumps(body)), self._service.new_timings()
        )
        labels = await asyncio.to_thread(lambda: label_map.from_objects(result).astype(np.int32))
        return to_tensors({specs.LABELS.name: labels}, specs.AUTOMATIC_OUTPUTS)

    async def _segment_semantic(self, request: InferRequest, image: ImageRecord) -> dict[str, Tensor]:
        has_probabilities = specs.PROBABILITIES.name in request.outputs
        body = {
            "image_id": image.image_id,
            "model": request.model,
            "format": "probabilities" if has_probabilities else "npy",
            **take(request.parameters, SEMANTIC_PARAMETERS),
        }
        answer = await semantic.segment_semantic(
            self._service, validate_body(SemanticIn, orjson.dumps(body)), self._service.new_timings()
        )
        tensors: dict[str, NDArray[Any]] = {specs.CLASSES.name: answer.class_map.values}
        if answer.class_map.probabilities is not None:
            tensors[specs.PROBABILITIES.name] = answer.class_map.probabilities
        return to_tensors(tensors, specs.SEMANTIC_OUTPUTS)

    async def _find_instances(
        self, request: InferRequest, image: ImageRecord, manifest: InstancesManifest
    ) -> dict[str, Tensor]:
        body = {
            "image_id": image.image_id,
            "model": request.model,
            **take(request.parameters, INSTANCE_PARAMETERS),
        }
        result, _ = await instances.find_instances(
            self._service,
            validate_body(InstancesIn, orjson.dumps(body)),
            lambda result, image: None,
            self._service.new_timings(),
        )
        return await asyncio.to_thread(instances_to_tensors, request, result, manifest)


def instances_to_tensors(
    request: InferRequest, result: ImageObjects, manifest: InstancesManifest
) -> dict[str, Tensor]:
    """Return the outputs of a model of instances. Blocks. Raises TooLarge."""
    items = result.objects
    names = [item.category or "" for item in items]
    boxes = [[b.x0, b.y0, b.x1, b.y1] for item in items if (b := item.box) is not None]
    tensors: dict[str, NDArray[Any]] = {
        specs.BOXES.name: np.array(boxes, np.float32).reshape(-1, 4),
        specs.SCORES.name: np.array([item.score for item in items], np.float32),
        specs.CLASS_IDS.name: np.array([manifest.classes.index(name) for name in names], np.int64),
    }
    if is_wanted(request, specs.INSTANCE_MASKS.name):
        height, width = result.size.height, result.size.width
        check_mask_bytes(len(items) * height * width, specs.BOXES.name)
        masks = np.array([crop.to_mask(item.crop) for item in items], np.bool_)
        tensors[specs.INSTANCE_MASKS.name] = masks.reshape(-1, height, width)
    return {
        **to_tensors(tensors, specs.INSTANCE_OUTPUTS),
        specs.CLASS_NAMES.name: text_tensor(specs.CLASS_NAMES.name, names),
    }


async def find_bundle(service: Service, name: str, version: str) -> Bundle:
    """Return a model's bundle. version: empty for the only one. Raises ModelNotFound, NotFound, BrokenModel."""
    if version not in ("", specs.VERSION):
        raise NotFound(
            f"Model {name!r} has no version {version!r}.",
            field="version",
            remedy=f"Its version is {specs.VERSION!r}.",
        )
    return await service.registry.get_bundle(name)


def take(parameters: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the parameters of these names. Clients send others too, for servers of other kinds."""
    return {name: value for name, value in parameters.items() if name in names}


def check_names(given: Collection[str], known: Collection[str], field: str) -> None:
    """Raises BadInput for a tensor that the model has not."""
    for name in given:
        if name not in known:
            raise BadInput(
                f"The model has no tensor {name!r}.", field=field, remedy=f"It has {', '.join(known)}."
            )


def is_wanted(request: InferRequest, name: str) -> bool:
    return not request.outputs or name in request.outputs


def choose_outputs(request: InferRequest, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the outputs to answer. Raises BadInput for one that the request does not lead to."""
    for name in request.outputs:
        if name not in tensors:
            raise BadInput(
                f"The request leads to no tensor {name!r}.",
                field="outputs",
                remedy=f"It leads to {', '.join(tensors)}: masks need prompts, labels none.",
            )
    return list(request.outputs or tensors)


def check_mask_bytes(count: int, alternative: str) -> None:
    if count > MAX_MASK_BYTES:
        raise TooLarge(
            f"The masks are {count // MB} MB, more than {MAX_MASK_BYTES // MB}.",
            field="outputs",
            remedy=f"Ask for fewer at once, or by name for the outputs that you need, such as {alternative}.",
        )


def check_pixels(tensor: Tensor) -> NDArray[np.uint8]:
    """Return the pixels [H, W, 3] or [H, W]. Raises BadInput."""
    pixels = tensor.values
    if pixels.ndim == 4 and pixels.shape[0] == 1:  # a batch of one
        pixels = pixels[0]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3
    if tensor.datatype != "UINT8" or not (is_colour or pixels.ndim == 2) or not pixels.size:
        raise bad_tensor(
            tensor.name,
            f"{tensor.datatype} {tensor.shape} is no image.",
            "Send UINT8 of [height, width, 3], RGB; or [height, width], grey.",
        )
    return pixels


def build_prompts(inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Return the JSON of `PromptIn` for each object. Raises BadInput where the tensors do not belong together."""
    points, labels = read_prompt(inputs, specs.POINT_COORDS, 3), read_prompt(inputs, specs.POINT_LABELS, 2)
    boxes, masks = read_prompt(inputs, specs.BOXES, 2), read_prompt(inputs, specs.MASK_INPUT, 3)
    counts = {len(values) for values in (points, labels, boxes, masks) if values is not None}
    if len(counts) != 1:
        raise BadInput(
            f"The prompts are of {' and '.join(map(str, sorted(counts)))} objects.",
            field="inputs",
            remedy="Send tensors whose first lengths are the number of objects.",
        )
    [count] = counts
    if labels is None and points is not None:
        labels = np.ones(points.shape[:2], np.int64)
    if points is None or labels is None or points.shape[:2] != labels.shape:
        if labels is not None:
            raise bad_tensor(
                specs.POINT_LABELS.name, "the points are not as many.", "Send a label for each point."
            )
        points, labels = np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.int64)
    if not np.isin(labels, (NO_POINT, 0, 1)).all():
        raise bad_tensor(
            specs.POINT_LABELS.name, "a label is none.", "Send 1 (on the object), 0 (not), or -1 (no point)."
        )
    return [
        {
            "points": points[i][labels[i] != NO_POINT].tolist(),
            "labels": labels[i][labels[i] != NO_POINT].tolist(),
            **({} if boxes is None else {"box": boxes[i].tolist()}),
            **({} if masks is None else {"logits": logits_to_json(masks[i])}),
        }
        for i in range(count)
    ]


def read_prompt(inputs: Mapping[str, Tensor], spec: specs.TensorSpec, dimensions: int) -> NDArray[Any] | None:
    """Return a prompt's values, with an axis for objects in front; None if there are none. Raises BadInput."""
    if (tensor := inputs.get(spec.name)) is None:
        return None
    values = tensor.values
    if values.ndim == dimensions - 1:  # one object
        values = values[np.newaxis]
    if (
        values.ndim == 4 and values.shape[1] == 1 and spec is specs.MASK_INPUT
    ):  # as SAM's own decoder takes it
        values = values[:, 0]
    fits = values.ndim == dimensions and all(
        wanted in (specs.ANY, length) for wanted, length in zip(spec.shape, values.shape, strict=True)
    )
    if fits:
        check_prompt_counts(spec, values)
    if not fits or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise bad_tensor(
            spec.name,
            f"{tensor.datatype} {tensor.shape} does not fit.",
            f"Send {spec.datatype} of {list(spec.shape)}, finite.",
        )
    return values.astype(np.int64 if spec is specs.POINT_LABELS else np.float32)


def check_prompt_counts(spec: specs.TensorSpec, values: NDArray[Any]) -> None:
    """Raises TooLarge, before anything is made for each object: a tensor without values claims any number of them."""
    objects = len(values)
    points = values.shape[1] if spec in (specs.POINT_COORDS, specs.POINT_LABELS) else 0
    if objects > MAX_PROMPTS or points > MAX_POINTS:
        raise TooLarge(
            f"Tensor {spec.name!r} has {objects} objects of {points} points.",
            field=spec.name,
            remedy=f"Send up to {MAX_PROMPTS} objects, each of up to {MAX_POINTS} points.",
        )


def to_tensors(
    values: Mapping[str, NDArray[Any]], outputs: Collection[specs.TensorSpec]
) -> dict[str, Tensor]:
    """Return the values as tensors of the outputs' types."""
    types = {spec.name: spec.datatype for spec in outputs}
    return {name: Tensor(name, types[name], array) for name, array in values.items()}
