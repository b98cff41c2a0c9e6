"""An image on the service, and masks on it that can be refined, for `AsyncClient`. See `image`, which blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import ArrayLike, NDArray

from segserve_client import answers, calls
from segserve_client.answers import ClassMap, ImageObjects, MaskAnswer, SimilarObjects, StoredImage
from segserve_client.async_job import AsyncJob
from segserve_client.async_transport import AsyncTransport
from segserve_client.errors import ImageNotFound, MaskNotFound
from segserve_client.image import (
    Example,
    Prior,
    can_do_without_mask_ids,
    mask_fields,
    to_example,
    to_prior,
    without_mask_ids,
)
from segserve_client.job_answers import Item, JobInfo, parse_item
from segserve_client.prompts import Prompt
from segserve_client.requests import Call
from segserve_client.uploads import OnProgress, Source, open_upload

T = TypeVar("T")


@dataclass(frozen=True)
class AsyncMask(MaskAnswer):
    """A mask of an image, which more points or a box refine. Fields are those of `Mask`."""

    image: AsyncImage = field(repr=False, compare=False)

    async def refine(
        self, points: ArrayLike | None = None, labels: ArrayLike | None = None, box: ArrayLike | None = None
    ) -> AsyncMask:
        """As `Mask.refine`."""
        return (await self.image.candidates(points, labels, box, self, select="best"))[0]


class AsyncImage:
    """`AsyncImage` is a picture on the service. Methods are those of `Image`."""

    def __init__(
        self,
        transport: AsyncTransport,
        stored: StoredImage,
        model: str | None,
        source: Source | None = None,
        options: calls.ReadOptions = calls.ReadOptions(),
        keep: bool = True,
    ) -> None:
        self._transport, self.stored, self.model = transport, stored, model
        self._source, self._options, self._keep = source, options, keep

    async def __aenter__(self) -> AsyncImage:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            await self.delete()

    @property
    def image_id(self) -> str:
        return self.stored.image_id

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.stored.height, self.stored.width

    async def segment(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: Prior | None = None,
        *,
        model: str | None = None,
        raw: bool = False,
    ) -> AsyncMask:
        """As `Image.segment`."""
        return (await self.candidates(points, labels, box, mask, model=model, raw=raw, select="best"))[0]

    async def candidates(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: Prior | None = None,
        *,
        model: str | None = None,
        raw: bool = False,
        select: str = "all",
    ) -> list[AsyncMask]:
        """As `Image.candidates`."""
        prompt = Prompt(points, labels, box, **to_prior(mask))
        return (await self.segment_many([prompt], model=model, raw=raw, select=select))[0]

    async def segment_many(
        self, prompts: Sequence[Prompt], *, model: str | None = None, raw: bool = False, select: str = "best"
    ) -> list[list[AsyncMask]]:
        """As `Image.segment_many`."""

        def build(image_id: str, prompts: Sequence[Prompt]) -> Call[answers.SegmentAnswer]:
            return calls.segment(image_id, model or self.model, prompts, select, raw)

        try:
            answer = await self._call(lambda image_id: build(image_id, prompts))
        except MaskNotFound:
            if not can_do_without_mask_ids(prompts):
                raise
            answer = await self._call(lambda image_id: build(image_id, without_mask_ids(prompts)))
        return [[AsyncMask(**mask_fields(mask), image=self) for mask in masks] for masks in answer.masks]

    async def automatic(
        self, method: str | None = None, *, model: str | None = None, **options: Any
    ) -> ImageObjects:
        """As `Image.automatic`."""
        options = calls.drop_none(method=method, **options)
        answer = await self._call(lambda image_id: calls.automatic(image_id, model or self.model, options))
        if isinstance(answer, JobInfo):
            (item,) = [item async for item in AsyncJob[Item](self._transport, answer, parse_item)]
            return item.objects
        return answer

    async def semantic(self, *, model: str | None = None, **options: Any) -> ClassMap:
        """As `Image.semantic`."""
        return await self._call(lambda image_id: calls.semantic(image_id, model, options))

    async def instances(self, *, model: str | None = None, **options: Any) -> ImageObjects:
        """As `Image.instances`."""
        return await self._call(lambda image_id: calls.instances(image_id, model, options))

    async def similar(
        self,
        examples: Sequence[Example],
        *,
        on: AsyncImage | None = None,
        model: str | None = None,
        **params: Any,
    ) -> SimilarObjects:
        """As `Image.similar`."""
        options: dict[str, Any] = {"params": params} if params else {}
        if on is not None:
            options["example_image_id"] = on.image_id
        prompts = [to_example(example) for example in examples]
        model = model or self.model
        try:
            return await self._call(lambda image_id: calls.similar(image_id, model, prompts, options))
        except MaskNotFound:
            if not can_do_without_mask_ids(prompts):
                raise
            prompts = without_mask_ids(prompts)
            return await self._call(lambda image_id: calls.similar(image_id, model, prompts, options))

    async def embedding(self, *, model: str | None = None) -> dict[str, NDArray[Any]]:
        """Return the arrays of the image's embedding, float16, by their names."""
        return await self._call(lambda image_id: calls.get_embedding(image_id, model or self.model))

    async def preview(self, max_side: int = 1024) -> bytes:
        """Return what models see as a PNG. max_side: its longest side at most, in pixels."""
        return await self._call(lambda image_id: calls.get_preview(image_id, max_side))

    async def delete(self) -> None:
        """Delete it from the service, with everything that was made from it."""
        await self._transport.call(calls.delete_image(self.image_id))

    async def _call(self, build: Callable[[str], Call[T]]) -> T:
        try:
            return await self._transport.call(build(self.image_id))
        except ImageNotFound:
            if self._source is None:
                raise
            self.stored = await send_image(self._transport, self._source, self._options, self.model)
            return await self._transport.call(build(self.image_id))


async def send_image(
    transport: AsyncTransport,
    source: Source,
    options: calls.ReadOptions,
    model: str | None,
    on_progress: OnProgress | None = None,
) -> StoredImage:
    with open_upload(source, on_progress=on_progress) as upload:
        return await transport.call(calls.upload_image(upload, options, model))
