"""Objects followed through the frames of a video, where they move, hide behind each other, and leave.

On each frame, for each object:

    where it was last seen -> find_move: where it went -> its mask, moved there, is the prompt -> the model's mask
    -> is it still the same? -> the next frame goes on from there
                             -> otherwise the object is missing: it is looked for on the next frames too, then lost

No two objects share a place: the one that is less like itself is missing there.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from segserve.decode.decode_prompt import decode_prompt
from segserve.decode.object_descriptor import compute_likeness, normalize_cells
from segserve.decode.prompt_encoding import logits_geometry
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks import crop, rle
from segserve.masks.geometry import iou
from segserve.models.promptable_model import PromptableModel
from segserve.projection.mask_to_prompt import mask_to_prompt
from segserve.projection.object_evidence import ObjectEvidence, keeps_contrast, measure_object
from segserve.projection.object_search import (
    Appearance,
    CellGrid,
    Move,
    describe,
    find_move,
    move_crop,
)
from segserve.projection.propagate import FoundOnSlice, PropagationOptions
from segserve.projection.slice_order import Chain, ProjectionVisit, SliceStep
from segserve.timing import Timings
from segserve.types import Candidate, Crop, Float32, LossReason, ObjectEnd, Prompt, Select, Size, UInt8

# The share of the latest move in the velocity, and of the latest descriptor in the running one.
VELOCITY_SHARE = 0.5
DESCRIPTOR_SHARE = 0.3
# A missing object is expected where its velocity would have brought it, for so many frames.
MAX_COASTED_FRAMES = 3
# The search for a missing object grows by this share of its radius with every frame, up to the double.
RADIUS_GROWTH = 0.25
# An object of which less than this share would be on the frame has left it.
MIN_VISIBLE_SHARE = 0.3
# What is found after a gap must be more like the object: the search is wide, and others look alike. This is the share
# of the way from min_likeness and min_step_likeness to 1.
CAUTION_AFTER_GAP = 0.5


@dataclass(frozen=True)
class Sighting:
    """An object on a frame where it was found. running: [C], the mean of its descriptors up to here, of length 1."""

    slice: int
    mask: Crop
    appearance: Appearance
    evidence: ObjectEvidence
    running: Float32


@dataclass
class Track:
    """How far a chain has come.

    first: what the frame shows where the chain begins.
    velocity: (x, y), pixels a frame.
    missing_since, reason: the frame from which the object is missing, and why it was not found there.
    """

    last: Sighting
    first: ObjectEvidence
    velocity: tuple[float, float] = (0.0, 0.0)
    missing_since: int | None = None
    reason: LossReason | None = None
    ended: bool = False


@dataclass
class MovingObject:
    """The state that is needed to go on with an object: what its frames with prompts show, and its chains."""

    annotated: dict[int, Sighting] = field(default_factory=dict)
    tracks: dict[Chain, Track] = field(default_factory=dict)
    ended: set[Chain] = field(default_factory=set)  # chains that never began


@dataclass(frozen=True)
class Frame:
    """A frame at work. pixels: RGB [H, W, 3]. field: [C, h, w], see `normalize_cells`."""

    index: int
    pixels: UInt8
    image: PreparedImage
    field: Float32
    grid: CellGrid


@dataclass(frozen=True)
class Proposal:
    """Where an object may be on a frame. likeness: of its descriptor to the running one."""

    candidate: Candidate
    evidence: ObjectEvidence
    likeness: float
    move: Move


class MotionPropagator:
    """`MotionPropagator` follows all objects of a job. It may be used by one thread at a time.

    It is a `MaskPropagator` for objects that move; `PropagationOptions.max_move` is above 0.
    """

    def __init__(self, model: PromptableModel, size: Size, options: PropagationOptions) -> None:
        self._model, self._size, self._options = model, size, options
        self._objects: dict[int, MovingObject] = {}
        # Pairs that shared a place on a frame with a prompt, such as a car and its wheel. They may share it again.
        self._nested: set[tuple[int, int]] = set()

    def has_work(self, visit: ProjectionVisit) -> bool:
        """Return whether any object has to be looked for on the frame, as far as is known now."""
        return bool(visit.annotated) or any(
            not self._has_ended(object_id, step) for object_id, step in visit.steps
        )

    def visit(
        self,
        pixels: UInt8,
        image: PreparedImage,
        visit: ProjectionVisit,
        prompts: Mapping[int, Prompt],
        timings: Timings,
    ) -> FoundOnSlice:
        """As `MaskPropagator.visit`."""
        manifest = self._model.manifest
        geometry, values = logits_geometry(manifest, self._size), image.embedding["embedding"]
        grid = CellGrid.from_image(self._size, geometry.valid, geometry.square, values.shape[-1])
        frame = Frame(visit.slice, pixels, image, normalize_cells(values), grid)
        masks: dict[int, Candidate] = {}
        for object_id, _ in visit.annotated:
            candidate = self._segment_annotated(frame, prompts[object_id], timings)
            if candidate is not None:
                evidence = self._measure(frame, candidate)
                sighting = self._sight(frame, candidate, evidence, evidence.descriptor)
                self._get_object(object_id).annotated[visit.slice] = sighting
                masks[object_id] = candidate
        steps = [(number, step) for number, step in visit.steps if not self._has_ended(number, step)]
        found = {object_id: self._follow(frame, object_id, step, timings) for object_id, step in steps}
        proposals = {number: item for number, item in found.items() if isinstance(item, Proposal)}
        losses = {number: item for number, item in found.items() if isinstance(item, LossReason)}
        for object_id in self._find_double_claims(masks, proposals):
            del proposals[object_id]
            losses[object_id] = LossReason.OVERLAP
        masks |= {object_id: proposal.candidate for object_id, proposal in proposals.items()}
        self._note_nested(dict(visit.annotated).keys(), masks)
        ends = []
        for object_id, step in steps:
            track = self._get_track(object_id, step)
            if object_id in proposals and track is not None:
                self._advance(frame, track, proposals[object_id])
            elif (end := self._miss(object_id, step, track, losses.get(object_id))) is not None:
                ends.append(end)
        return FoundOnSlice(masks, ends, losses)

    def _get_object(self, object_id: int) -> MovingObject:
        return self._objects.setdefault(object_id, MovingObject())

    def _has_ended(self, object_id: int, step: SliceStep) -> bool:
        item = self._get_object(object_id)
        track = item.tracks.get(step.chain)
        return step.chain in item.ended or (track is not None and track.ended)

    def _get_track(self, object_id: int, step: SliceStep) -> Track | None:
        """Return the track that a step continues: that of its chain, which may begin here.

        The frame in the middle between two prompts is a chain of its own. It continues one of the chains that end
        beside it.
        """
        item = self._get_object(object_id)
        if step.chain not in item.tracks:
            for source in step.sources:
                begin = item.annotated.get(source)
                if begin is not None:
                    item.tracks[step.chain] = Track(begin, begin.evidence)
                    break
                beside = next((track for track in item.tracks.values() if track.last.slice == source), None)
                if beside is not None:
                    item.tracks[step.chain] = replace(beside)
                    break
        return item.tracks.get(step.chain)

    def _segment_annotated(self, frame: Frame, prompt: Prompt, timings: Timings) -> Candidate | None:
        """Return the mask for the user's prompt; None if it is empty."""
        options = self._options
        [candidate, *_] = decode_prompt(
            self._model, frame.image, prompt, None, options.select, timings, raw=options.raw
        )
        return candidate if candidate.crop.pixels.any() else None

    def _follow(
        self, frame: Frame, object_id: int, step: SliceStep, timings: Timings
    ) -> Proposal | LossReason:
        """Return where an object may be on the next frame, or why it is not found there."""
        track = self._get_track(object_id, step)
        if track is None:
            return LossReason.EMPTY
        found = self._find(frame, track, timings)
        if isinstance(found, LossReason) and has_left(track, frame.index):
            return LossReason.LEFT
        return found

    def _find(self, frame: Frame, track: Track, timings: Timings) -> Proposal | LossReason:
        options = self._options
        gap = abs(frame.index - track.last.slice)
        coasted = min(gap, MAX_COASTED_FRAMES)
        expected = track.velocity[0] * coasted, track.velocity[1] * coasted
        edge = max(self._size.height, self._size.width)
        radius = options.max_move * edge * min(2.0, 1 + RADIUS_GROWTH * (gap - 1))
        move = find_move(
            track.last.appearance, frame.pixels, frame.field, frame.grid, expected, (radius, radius)
        )
        moved = move_crop(track.last.mask, move.dx, move.dy)
        if crop.area(moved) < MIN_VISIBLE_SHARE * crop.area(track.last.mask):
            return LossReason.LEFT
        before = crop.to_mask(moved)
        prompt = mask_to_prompt(before, options.projection, options.box_extension)
        [candidate, *_] = decode_prompt(
            self._model, frame.image, prompt, False, Select.BEST, timings, raw=options.raw
        )
        now = crop.to_mask(candidate.crop)
        if not now.any():
            return LossReason.EMPTY
        if iou(before, now) < options.iou_threshold:
            return LossReason.IOU
        if candidate.score < options.min_score:
            return LossReason.SCORE
        evidence = self._measure(frame, candidate)
        if not keeps_contrast(track.first, evidence, options.min_contrast):
            return LossReason.CONTRAST
        caution = CAUTION_AFTER_GAP if gap > 1 else 0.0
        first_likeness = compute_likeness(track.first.descriptor, evidence.descriptor)
        if first_likeness < be_cautious(options.min_likeness, caution):
            return LossReason.LIKENESS
        likeness = compute_likeness(track.last.running, evidence.descriptor)
        if likeness < be_cautious(options.min_step_likeness, caution):
            return LossReason.STEP_LIKENESS
        return Proposal(candidate, evidence, likeness, move)

    def _find_double_claims(
        self, masks: Mapping[int, Candidate], proposals: Mapping[int, Proposal]
    ) -> set[int]:
        """Return the objects whose place another object has: one with a prompt, or one that is more like itself."""
        if self._options.max_overlap >= 1:
            return set()
        taken = {object_id: candidate.crop for object_id, candidate in masks.items()}
        losers = set()
        for object_id, proposal in sorted(proposals.items(), key=lambda item: -item[1].likeness):
            mask = proposal.candidate.crop
            if any(
                share_of_overlap(mask, other) > self._options.max_overlap
                for other_id, other in taken.items()
                if (min(object_id, other_id), max(object_id, other_id)) not in self._nested
            ):
                losers.add(object_id)
            else:
                taken[object_id] = mask
        return losers

    def _note_nested(self, annotated: Iterable[int], masks: Mapping[int, Candidate]) -> None:
        """Remember which objects share a place with one that has a prompt on this frame."""
        for one in annotated:
            for other in masks:
                if one in masks and one != other:
                    overlap = share_of_overlap(masks[one].crop, masks[other].crop)
                    if overlap > self._options.max_overlap:
                        self._nested.add((min(one, other), max(one, other)))

    def _advance(self, frame: Frame, track: Track, proposal: Proposal) -> None:
        """Go on from where an object was found."""
        gap = abs(frame.index - track.last.slice)
        step = proposal.move.dx / gap, proposal.move.dy / gap
        track.velocity = (
            (1 - VELOCITY_SHARE) * track.velocity[0] + VELOCITY_SHARE * step[0],
            (1 - VELOCITY_SHARE) * track.velocity[1] + VELOCITY_SHARE * step[1],
        )
        evidence = proposal.evidence
        running = (1 - DESCRIPTOR_SHARE) * track.last.running + DESCRIPTOR_SHARE * evidence.descriptor
        running = (running / max(float(np.linalg.norm(running)), 1e-6)).astype(np.float32)
        track.last = self._sight(frame, proposal.candidate, evidence, running)
        track.missing_since = track.reason = None

    def _miss(
        self, object_id: int, step: SliceStep, track: Track | None, reason: LossReason | None
    ) -> ObjectEnd | None:
        """Note that an object is missing on a frame. Returns its end if it is given up."""
        reason = reason or LossReason.EMPTY
        if track is None:
            self._get_object(object_id).ended.add(step.chain)
            return ObjectEnd(object_id, step.slice, None, reason) if step.stops else None
        if track.missing_since is None:
            track.missing_since, track.reason = step.slice, reason
        since, first_reason = track.missing_since, track.reason or reason
        has_waited = abs(step.slice - since) >= self._options.max_gap or reason is LossReason.LEFT
        has_waited &= step.stops
        if not (has_waited or step.is_last):
            return None
        track.ended = True
        told = LossReason.LEFT if reason is LossReason.LEFT else first_reason
        return ObjectEnd(object_id, since, track.last.slice, told)

    def _sight(
        self, frame: Frame, candidate: Candidate, evidence: ObjectEvidence, running: Float32
    ) -> Sighting:
        appearance = describe(frame.pixels, frame.field, frame.grid, candidate.crop)
        return Sighting(frame.index, candidate.crop, appearance, evidence, running)

    def _measure(self, frame: Frame, candidate: Candidate) -> ObjectEvidence:
        threshold = self._model.manifest.mask_threshold
        return measure_object(frame.pixels, frame.image.embedding["embedding"], candidate, threshold)

    def dump(self) -> bytes:
        """Return everything that is needed to go on, for `load`."""
        objects = {str(object_id): dump_object(item) for object_id, item in self._objects.items()}
        return orjson.dumps({"objects": objects, "nested": sorted(self._nested)})

    def load(self, dumped: bytes) -> None:
        fields = orjson.loads(dumped)
        self._objects = {
            int(object_id): load_object(item, self._size) for object_id, item in fields["objects"].items()
        }
        self._nested = {(one, other) for one, other in fields["nested"]}


def be_cautious(limit: float, caution: float) -> float:
    """Return a limit raised by a share of its way to 1; -1 stays, since it accepts anything."""
    return limit if limit <= -1 else limit + caution * (1 - limit)


def has_left(track: Track, index: int) -> bool:
    """Return whether an object would be out of the frame if it went on as it last did."""
    mask = track.last.mask
    frames = min(abs(index - track.last.slice), MAX_COASTED_FRAMES)
    expected = move_crop(mask, round(track.velocity[0] * frames), round(track.velocity[1] * frames))
    return crop.area(expected) < MIN_VISIBLE_SHARE * crop.area(mask)


def share_of_overlap(one: Crop, other: Crop) -> float:
    """Return the area that two masks share, as a part of the smaller one."""
    x0, y0 = max(one.x, other.x), max(one.y, other.y)
    x1, y1 = (
        min(mask.x + mask.pixels.shape[1] for mask in (one, other)),
        min(mask.y + mask.pixels.shape[0] for mask in (one, other)),
    )
    if x0 >= x1 or y0 >= y1:
        return 0.0
    first, second = (
        mask.pixels[y0 - mask.y : y1 - mask.y, x0 - mask.x : x1 - mask.x] for mask in (one, other)
    )
    smaller = min(crop.area(one), crop.area(other))
    return float(np.count_nonzero(first & second) / smaller) if smaller else 0.0


def dump_object(item: MovingObject) -> dict[str, Any]:
    """Return an object as JSON."""
    return {
        "annotated": [dump_sighting(sighting) for sighting in item.annotated.values()],
        "tracks": [
            {
                "chain": chain,
                "last": dump_sighting(track.last),
                "first": dump_evidence(track.first),
                "velocity": track.velocity,
                "missing_since": track.missing_since,
                "reason": track.reason,
                "ended": track.ended,
            }
            for chain, track in item.tracks.items()
        ],
        "ended": sorted(item.ended),
    }


def load_object(fields: dict[str, Any], size: Size) -> MovingObject:
    """Return the object that `dump_object` made `fields` of."""
    sightings = [load_sighting(item, size) for item in fields["annotated"]]
    tracks = {}
    for item in fields["tracks"]:
        begin, by = item["chain"]
        vx, vy = item["velocity"]
        reason = None if item["reason"] is None else LossReason(item["reason"])
        tracks[begin, by] = Track(
            load_sighting(item["last"], size),
            load_evidence(item["first"]),
            (vx, vy),
            item["missing_since"],
            reason,
            item["ended"],
        )
    ended = {(begin, by) for begin, by in fields["ended"]}
    return MovingObject({sighting.slice: sighting for sighting in sightings}, tracks, ended)


ARRAYS = ("cells", "weights", "directions", "patch", "inside")


def dump_sighting(sighting: Sighting) -> dict[str, Any]:
    looks = sighting.appearance
    return {
        "slice": sighting.slice,
        "mask": rle.encode(sighting.mask),
        "evidence": dump_evidence(sighting.evidence),
        "running": dump_array(sighting.running),
        "place": (looks.x, looks.y, looks.step),
        **{name: dump_array(getattr(looks, name)) for name in ARRAYS},
    }


def load_sighting(fields: dict[str, Any], size: Size) -> Sighting:
    appearance = Appearance(*(load_array(fields[name]) for name in ARRAYS), *fields["place"])
    mask = crop.from_mask(rle.decode(fields["mask"], size))
    evidence, running = load_evidence(fields["evidence"]), load_array(fields["running"])
    return Sighting(fields["slice"], mask, appearance, evidence, running)


def dump_evidence(evidence: ObjectEvidence) -> list[Any]:
    return [dump_array(evidence.contrast), dump_array(evidence.descriptor)]


def load_evidence(fields: list[Any]) -> ObjectEvidence:
    return ObjectEvidence(*(load_array(item) for item in fields))


def dump_array(values: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], str]:
    return values.dtype.str, values.shape, base64.b64encode(values.tobytes()).decode()


def load_array(fields: tuple[str, list[int], str]) -> Any:
    dtype, shape, content = fields
    return np.frombuffer(base64.b64decode(content), dtype).reshape(shape)
