"""Propagation of objects through slices: the mask of one slice becomes the prompt on the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from segserve.decode.decode_prompt import decode_prompt
from segserve.decode.object_descriptor import compute_likeness
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks import crop, rle
from segserve.masks.geometry import iou
from segserve.models.promptable_model import PromptableModel
from segserve.projection.mask_to_prompt import Projection, mask_to_prompt
from segserve.projection.object_evidence import ObjectEvidence, keeps_contrast, measure_object
from segserve.projection.slice_order import Chain, ProjectionVisit, SliceStep
from segserve.timing import Timings
from segserve.types import Bool, Candidate, Crop, LossReason, ObjectEnd, Prompt, Select, Size, UInt8


@dataclass(frozen=True)
class PropagationOptions:
    """The options of a propagation job.

    projection, box_extension: see `mask_to_prompt`.
    iou_threshold: an object ends where the IoU of its mask with that of the slice before is below this, 0 to 1. The
        default is that of μSAM's annotator.
    min_score: an object ends where the model predicts a lower quality of its mask, 0 to 1. μSAM has no such option.
    select: which of the candidates to take on annotated slices.
    raw: take the model's own masks, as μSAM does. Otherwise they are cleaned, see `decode_prompt`.
    min_contrast: an object ends where its contrast to its rim is a smaller part of that on the annotated slice; 0 is
        never.
    min_likeness: an object ends where its descriptor has a lower likeness to that on the annotated slice; -1 is never.
        See `decode/object_descriptor.py`. μSAM has neither.
    max_move: how far an object is looked for from where it should be, as a share of the frame's longer edge; 0: each
        prompt stays where the mask was, as in μSAM. The other options are used where it is above 0, see
        `follow_motion.py`.
    min_step_likeness: as min_likeness, to the object's running mean over the frames before.
    max_overlap: the largest share of the smaller one of two objects that both may have; 1: any.
    max_gap: frames on which a missing object is looked for before it is lost; 0: none.
    """

    projection: Projection = Projection.MASK
    iou_threshold: float = 0.5
    min_score: float = 0.0
    box_extension: float = 0.0
    select: Select = Select.BEST
    raw: bool = False
    min_contrast: float = 0.0
    min_likeness: float = -1.0
    max_move: float = 0.0
    min_step_likeness: float = -1.0
    max_overlap: float = 1.0
    max_gap: int = 0


@dataclass
class PropagatedObject:
    """The state that is needed to go on with an object.

    annotated: its masks on annotated slices, by slice.
    evidence: what the annotated slices show of it, by slice.
    latest: for each chain, the last slice and the mask there.
    ended: the chains that go no further.
    """

    annotated: dict[int, Crop] = field(default_factory=dict)
    evidence: dict[int, ObjectEvidence] = field(default_factory=dict)
    latest: dict[Chain, tuple[int, Crop]] = field(default_factory=dict)
    ended: set[Chain] = field(default_factory=set)

    def get_mask(self, index: int) -> Crop | None:
        """Return the mask on a slice, if it is still known."""
        if index in self.annotated:
            return self.annotated[index]
        return next((mask for slice_, mask in self.latest.values() if slice_ == index), None)


@dataclass(frozen=True)
class FoundOnSlice:
    """What was found on a slice.

    masks: by object id. ends: of the objects that no slice after this one in their chain can show.
    missing: why other objects that were looked for are not there, by object id.
    """

    masks: dict[int, Candidate]
    ends: list[ObjectEnd]
    missing: Mapping[int, LossReason] = field(default_factory=dict)


class MaskPropagator:
    """`MaskPropagator` propagates all objects of a job. It may be used by one thread at a time."""

    def __init__(self, model: PromptableModel, size: Size, options: PropagationOptions) -> None:
        self._model, self._size, self._options = model, size, options
        self._objects: dict[int, PropagatedObject] = {}

    def has_work(self, visit: ProjectionVisit) -> bool:
        """Return whether any object has to be segmented on the slice, as far as is known now."""
        return bool(visit.annotated) or any(
            step.chain not in self._get_object(object_id).ended for object_id, step in visit.steps
        )

    def visit(
        self,
        pixels: UInt8,
        image: PreparedImage,
        visit: ProjectionVisit,
        prompts: Mapping[int, Prompt],
        timings: Timings,
    ) -> FoundOnSlice:
        """Return what is on a slice.

        pixels: the slice, RGB [H, W, 3]. image: the same, encoded. prompts: of the annotated objects, by object id.
        """
        masks, ends = dict[int, Candidate](), list[ObjectEnd]()
        for object_id, _ in visit.annotated:
            candidate = self._segment_annotated(image, prompts[object_id], timings)
            if candidate is not None:
                item = self._get_object(object_id)
                item.annotated[visit.slice] = candidate.crop
                item.evidence[visit.slice] = self._measure(pixels, image, candidate)
                masks[object_id] = candidate
        for object_id, step in visit.steps:
            item = self._get_object(object_id)
            if step.chain in item.ended:
                continue
            found = self._take_step(pixels, image, step, item, timings)
            if isinstance(found, LossReason):
                item.ended.add(step.chain)
                last = next((index for index in step.sources if item.get_mask(index) is not None), None)
                ends.append(ObjectEnd(object_id, step.slice, last, found))
            else:
                item.latest[step.chain] = (step.slice, found.crop)
                masks[object_id] = found
        return FoundOnSlice(masks, ends)

    def _get_object(self, object_id: int) -> PropagatedObject:
        return self._objects.setdefault(object_id, PropagatedObject())

    def _segment_annotated(self, image: PreparedImage, prompt: Prompt, timings: Timings) -> Candidate | None:
        """Return the mask for the user's prompt; None if it is empty."""
        options = self._options
        candidate = decode_prompt(self._model, image, prompt, None, options.select, timings, raw=options.raw)[
            0
        ]
        return candidate if candidate.crop.pixels.any() else None

    def _take_step(
        self, pixels: UInt8, image: PreparedImage, step: SliceStep, item: PropagatedObject, timings: Timings
    ) -> Candidate | LossReason:
        """Return the mask of an object on the next slice of a chain, or why the chain ends before it."""
        sources = [mask for mask in map(item.get_mask, step.sources) if mask is not None]
        found = self._project(image, sources, step, timings) if sources else LossReason.EMPTY
        if isinstance(found, LossReason) or not step.stops:
            return found
        return self._find_loss(pixels, image, step, item, found) or found

    def _project(
        self, image: PreparedImage, sources: list[Crop], step: SliceStep, timings: Timings
    ) -> Candidate | LossReason:
        """Return the mask that the joined masks of the source slices prompt, or why the object ends before it."""
        options = self._options
        before: Bool = np.logical_or.reduce([crop.to_mask(mask) for mask in sources])
        prompt = mask_to_prompt(before, options.projection, options.box_extension)
        candidate = decode_prompt(self._model, image, prompt, False, Select.BEST, timings, raw=options.raw)[0]
        now = crop.to_mask(candidate.crop)
        if not now.any():
            return LossReason.EMPTY
        if step.stops and iou(before, now) < options.iou_threshold:
            return LossReason.IOU
        if step.stops and candidate.score < options.min_score:
            return LossReason.SCORE
        return candidate

    def _find_loss(
        self,
        pixels: UInt8,
        image: PreparedImage,
        step: SliceStep,
        item: PropagatedObject,
        candidate: Candidate,
    ) -> LossReason | None:
        """Return why the picture does not show the object of the annotated slice where the chain begins; None if it
        does."""
        begin, options = item.evidence.get(step.chain[0]), self._options
        if begin is None:  # the job began before evidence was kept
            return None
        now = self._measure(pixels, image, candidate)
        if not keeps_contrast(begin, now, options.min_contrast):
            return LossReason.CONTRAST
        likeness = compute_likeness(begin.descriptor, now.descriptor)
        return LossReason.LIKENESS if likeness < options.min_likeness else None

    def _measure(self, pixels: UInt8, image: PreparedImage, candidate: Candidate) -> ObjectEvidence:
        threshold = self._model.manifest.mask_threshold
        return measure_object(pixels, image.embedding["embedding"], candidate, threshold)

    def dump(self) -> bytes:
        """Return everything that is needed to go on, for `load`."""
        return orjson.dumps({str(object_id): dump_object(item) for object_id, item in self._objects.items()})

    def load(self, dumped: bytes) -> None:
        self._objects = {
            int(object_id): load_object(fields, self._size)
            for object_id, fields in orjson.loads(dumped).items()
        }


def dump_object(item: PropagatedObject) -> dict[str, Any]:
    """Return an object as JSON, its masks as run lengths."""
    return {
        "marked": [(index, rle.encode(mask)) for index, mask in item.annotated.items()],
        "evidence": [
            (index, evidence.contrast.tolist(), evidence.descriptor.tolist())
            for index, evidence in item.evidence.items()
        ],
        "latest": [(chain, index, rle.encode(mask)) for chain, (index, mask) in item.latest.items()],
        "ended": sorted(item.ended),
    }


def load_object(fields: dict[str, Any], size: Size) -> PropagatedObject:
    """Return the object that `dump_object` made `fields` of."""

    def decode_mask(counts: str) -> Crop:
        return crop.from_mask(rle.decode(counts, size))

    return PropagatedObject(
        {index: decode_mask(counts) for index, counts in fields["marked"]},
        {
            index: ObjectEvidence(np.array(contrast, np.float32), np.array(descriptor, np.float32))
            for index, contrast, descriptor in fields.get("evidence", ())
        },
        {tuple(chain): (index, decode_mask(counts)) for chain, index, counts in fields["latest"]},
        {(begin, by) for begin, by in fields["ended"]},
    )
