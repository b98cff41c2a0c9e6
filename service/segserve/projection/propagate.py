"""Objects through the slices: the mask of one becomes the prompt on the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from segserve.decode.segmenter import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks import crop, rle
from segserve.masks.geometry import iou
from segserve.models.promptable_model import PromptableModel
from segserve.projection.mask_to_prompt import Projection, mask_to_prompt
from segserve.projection.slice_order import Chain, ProjectionVisit, SliceStep
from segserve.timing import Timings
from segserve.types import Bool, Candidate, Crop, Prompt, Select, Size


@dataclass(frozen=True)
class PropagationOptions:
    """iou_threshold: an object ends where its mask overlaps less with that of the slice before, and where the model
    expects its mask to be worse than min_score. The first default is that of μSAM's annotator; μSAM has no second.
    select: of the candidates on annotated slices."""

    projection: Projection = Projection.MASK
    iou_threshold: float = 0.5
    min_score: float = 0.0
    box_extension: float = 0.0
    select: Select = Select.BEST


@dataclass
class PropagatedObject:
    """What it takes to go on with an object. marked: its masks on annotated slices. latest: of each chain, the last
    slice and the mask there. ended: chains that go no further."""

    marked: dict[int, Crop] = field(default_factory=dict)
    latest: dict[Chain, tuple[int, Crop]] = field(default_factory=dict)
    ended: set[Chain] = field(default_factory=set)

    def mask(self, at: int) -> Crop | None:
        if at in self.marked:
            return self.marked[at]
        return next((mask for slice_, mask in self.latest.values() if slice_ == at), None)


class MaskPropagator:
    """All objects of a job. Used by one thread at a time."""

    def __init__(self, model: PromptableModel, size: Size, options: PropagationOptions) -> None:
        self._model, self._size, self._options = model, size, options
        self._objects: dict[int, PropagatedObject] = {}

    def has_work(self, visit: ProjectionVisit) -> bool:
        """Whether there is anything to look for on that slice, as far as is known now."""
        return bool(visit.annotated) or any(
            step.chain not in self._object(name).ended for name, step in visit.steps
        )

    def visit(
        self, image: PreparedImage, visit: ProjectionVisit, prompts: Mapping[int, Prompt], timings: Timings
    ) -> dict[int, Candidate]:
        """What is there, by object. prompts: of the annotated objects."""
        found = {}
        for name, _ in visit.annotated:
            candidate = self._annotate(image, prompts[name], timings)
            if candidate is not None:
                self._object(name).marked[visit.slice] = candidate.crop
                found[name] = candidate
        for name, step in visit.steps:
            candidate = self._advance(image, step, self._object(name), timings)
            if candidate is not None:
                found[name] = candidate
        return found

    def _object(self, name: int) -> PropagatedObject:
        return self._objects.setdefault(name, PropagatedObject())

    def _annotate(self, image: PreparedImage, prompt: Prompt, timings: Timings) -> Candidate | None:
        """None: there is nothing."""
        found = decode_prompt(self._model, image, prompt, None, self._options.select, timings)[0]
        return found if found.crop.pixels.any() else None

    def _advance(
        self, image: PreparedImage, step: SliceStep, object_: PropagatedObject, timings: Timings
    ) -> Candidate | None:
        """None: it is not there, or has ended before."""
        if step.chain in object_.ended:
            return None
        sources = [mask for mask in map(object_.mask, step.sources) if mask is not None]
        found = self._look(image, sources, step, timings) if sources else None
        if found is None:
            object_.ended.add(step.chain)
            return None
        object_.latest[step.chain] = (step.slice, found.crop)
        return found

    def _look(
        self, image: PreparedImage, sources: list[Crop], step: SliceStep, timings: Timings
    ) -> Candidate | None:
        options = self._options
        before: Bool = np.logical_or.reduce([crop.to_mask(each) for each in sources])
        prompt = mask_to_prompt(before, options.projection, options.box_extension)
        found = decode_prompt(self._model, image, prompt, False, Select.BEST, timings)[0]
        now = crop.to_mask(found.crop)
        if not now.any():
            return None
        if step.stops and (iou(before, now) < options.iou_threshold or found.score < options.min_score):
            return None
        return found

    def dump(self) -> bytes:
        """What `load` goes on from."""
        return orjson.dumps({str(name): object_to_json(each) for name, each in self._objects.items()})

    def load(self, dumped: bytes) -> None:
        self._objects = {
            int(name): object_from_json(each, self._size) for name, each in orjson.loads(dumped).items()
        }


def object_to_json(object_: PropagatedObject) -> dict[str, Any]:
    return {
        "marked": [(at, rle.encode(mask)) for at, mask in object_.marked.items()],
        "latest": [(chain, at, rle.encode(mask)) for chain, (at, mask) in object_.latest.items()],
        "ended": sorted(object_.ended),
    }


def object_from_json(fields: dict[str, Any], size: Size) -> PropagatedObject:
    def read(counts: str) -> Crop:
        return crop.from_mask(rle.decode(counts, size))

    return PropagatedObject(
        {at: read(counts) for at, counts in fields["marked"]},
        {tuple(chain): (at, read(counts)) for chain, at, counts in fields["latest"]},
        {(begin, by) for begin, by in fields["ended"]},
    )
