"""An image on the service, and masks on it that can be refined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import ArrayLike, NDArray

from segserve_client import answers, calls
from segserve_client.answers import ClassMap, ImageObjects, MaskAnswer, SimilarObjects, StoredImage
from segserve_client.errors import ImageNotFound, MaskNotFound
from segserve_client.job import Job
from segserve_client.job_answers import Item, JobInfo, parse_item
from segserve_client.prompts import MaskLike, Prompt
from segserve_client.requests import Call
from segserve_client.transport import Transport
from segserve_client.uploads import OnProgress, Source, open_upload

T = TypeVar("T")

# What can be refined: a mask or an object of an answer, an array bool [height, width], or run lengths.
Prior = MaskAnswer | answers.Object | MaskLike
# What `similar` takes as an example: a mask of an answer, or a prompt.
Example = MaskAnswer | answers.Object | Prompt


@dataclass(frozen=True)
class Mask(MaskAnswer):
    """A mask of an image, which more points or a box refine.

    array: bool [height, width]. score: predicted IoU, 0 to 1. box: x0, y0, x1, y1. area: pixels.
    """

    image: Image = field(repr=False, compare=False)

    def refine(
        self, points: ArrayLike | None = None, labels: ArrayLike | None = None, box: ArrayLike | None = None
    ) -> Mask:
        """Return the mask that these points and this box make of it. All points of the object are sent, old and new.

        The service remembers masks for a while. Where it has forgotten this one, the mask itself is sent.
        """
        return self.image.candidates(points, labels, box, self, select="best")[0]


def to_prior(mask: Prior | None) -> dict[str, Any]:
    """Return the fields of a prompt for a mask to refine: its id where it has one, and the mask."""
    if isinstance(mask, MaskAnswer):
        return {"mask": mask.rle, "mask_id": mask.mask_id}
    return {"mask": mask.rle if isinstance(mask, answers.Object) else mask}


def to_example(example: Example) -> Prompt:
    if isinstance(example, Prompt):
        return example
    return Prompt(mask=example.rle, mask_id=getattr(example, "mask_id", None))


def without_mask_ids(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts with their masks in place of the ids of masks."""
    return [Prompt(prompt.points, prompt.labels, prompt.box, prompt.mask) for prompt in prompts]


def can_do_without_mask_ids(prompts: Sequence[Prompt]) -> bool:
    ids = [prompt for prompt in prompts if prompt.mask_id is not None]
    return bool(ids) and all(prompt.mask is not None for prompt in ids)


def mask_fields(mask: MaskAnswer) -> dict[str, Any]:
    return {item.name: getattr(mask, item.name) for item in fields(MaskAnswer)}


class Image:
    """`Image` is a picture on the service, and what can be found on it.

    model: of all requests, unless they name another; None is the service's default.

    The service keeps pictures, so that the next upload of the same one is quick. `with client.image(...) as image`
    deletes it when the block ends if it was opened with keep=False. A picture that the service has deleted meanwhile is
    sent again.
    """

    def __init__(
        self,
        transport: Transport,
        stored: StoredImage,
        model: str | None,
        source: Source | None = None,
        options: calls.ReadOptions = calls.ReadOptions(),
        keep: bool = True,
    ) -> None:
        self._transport, self.stored, self.model = transport, stored, model
        self._source, self._options, self._keep = source, options, keep

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.delete()

    @property
    def image_id(self) -> str:
        return self.stored.image_id

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.stored.height, self.stored.width

    def segment(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: Prior | None = None,
        *,
        model: str | None = None,
        raw: bool = False,
    ) -> Mask:
        """Return the best mask for what is marked.

        points: [n, 2] or one (x, y), in pixels. labels: [n], 1 on the object and 0 not; all 1 if left out.
        box: x0, y0, x1, y1. mask: to refine, of an answer or bool [height, width]. raw: the model's own, not cleaned.
        """
        return self.candidates(points, labels, box, mask, model=model, raw=raw, select="best")[0]

    def candidates(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: Prior | None = None,
        *,
        model: str | None = None,
        raw: bool = False,
        select: str = "all",
    ) -> list[Mask]:
        """Return all masks that the model offers for what is marked. Arguments are those of `segment`.

        select: all, best, or first (the first of the three candidates).
        """
        prompt = Prompt(points, labels, box, **to_prior(mask))
        return self.segment_many([prompt], model=model, raw=raw, select=select)[0]

    def segment_many(
        self, prompts: Sequence[Prompt], *, model: str | None = None, raw: bool = False, select: str = "best"
    ) -> list[list[Mask]]:
        """Return the masks of several objects in one request: of each prompt the best one, or as `select` says."""

        def build(image_id: str, prompts: Sequence[Prompt]) -> Call[answers.SegmentAnswer]:
            return calls.segment(image_id, model or self.model, prompts, select, raw)

        try:
            answer = self._call(lambda image_id: build(image_id, prompts))
        except MaskNotFound:
            if not can_do_without_mask_ids(prompts):
                raise
            answer = self._call(lambda image_id: build(image_id, without_mask_ids(prompts)))
        return [[Mask(**mask_fields(mask), image=self) for mask in masks] for masks in answer.masks]

    def automatic(
        self, method: str | None = None, *, model: str | None = None, **options: Any
    ) -> ImageObjects:
        """Return all objects of the image.

        method: ais or amg; the model's own if left out. options: of POST /v1/automatic, such as params, object_size.

        An image with too many tiles for one request becomes a job, which is waited for.
        """
        options = calls.drop_none(method=method, **options)
        answer = self._call(lambda image_id: calls.automatic(image_id, model or self.model, options))
        if isinstance(answer, JobInfo):
            (item,) = Job[Item](self._transport, answer, parse_item)
            return item.objects
        return answer

    def semantic(self, *, model: str | None = None, **options: Any) -> ClassMap:
        """Return a class for every pixel. model: a semantic one. options: of POST /v1/semantic, such as threshold."""
        return self._call(lambda image_id: calls.semantic(image_id, model, options))

    def instances(self, *, model: str | None = None, **options: Any) -> ImageObjects:
        """Return the objects of known classes. options: of POST /v1/instances, such as classes, score_threshold."""
        return self._call(lambda image_id: calls.instances(image_id, model, options))

    def similar(
        self,
        examples: Sequence[Example],
        *,
        on: Image | None = None,
        model: str | None = None,
        **params: Any,
    ) -> SimilarObjects:
        """Return the objects that are like the examples.

        examples: masks, objects or prompts. on: the image that they are on; this one if left out.
        params: of POST /v1/similar, such as min_likeness, max_objects.
        """
        options: dict[str, Any] = {"params": params} if params else {}
        if on is not None:
            options["example_image_id"] = on.image_id
        prompts = [to_example(example) for example in examples]
        model = model or self.model
        try:
            return self._call(lambda image_id: calls.similar(image_id, model, prompts, options))
        except MaskNotFound:
            if not can_do_without_mask_ids(prompts):
                raise
            prompts = without_mask_ids(prompts)
            return self._call(lambda image_id: calls.similar(image_id, model, prompts, options))

    def embedding(self, *, model: str | None = None) -> dict[str, NDArray[Any]]:
        """Return the arrays of the image's embedding, float16, by their names."""
        return self._call(lambda image_id: calls.get_embedding(image_id, model or self.model))

    def preview(self, max_side: int = 1024) -> bytes:
        """Return what models see as a PNG. max_side: its longest side at most, in pixels."""
        return self._call(lambda image_id: calls.get_preview(image_id, max_side))

    def delete(self) -> None:
        """Delete it from the service, with everything that was made from it."""
        self._transport.call(calls.delete_image(self.image_id))

    def _call(self, build: Callable[[str], Call[T]]) -> T:
        try:
            return self._transport.call(build(self.image_id))
        except ImageNotFound:
            if self._source is None:
                raise
            self.stored = send_image(self._transport, self._source, self._options, self.model)
            return self._transport.call(build(self.image_id))


def send_image(
    transport: Transport,
    source: Source,
    options: calls.ReadOptions,
    model: str | None,
    on_progress: OnProgress | None = None,
) -> StoredImage:
    with open_upload(source, on_progress=on_progress) as upload:
        return transport.call(calls.upload_image(upload, options, model))
