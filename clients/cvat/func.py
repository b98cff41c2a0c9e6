"""Functions for CVAT's agents (cvat-cli 2.80 and later), answered by a running segserve.

    cvat-cli function create-native segserve --function-file func.py -p kind=str:interactor
    cvat-cli function run-agent ID --function-file func.py -p kind=str:interactor -p address=str:http://127.0.0.1:8000

kind: interactor, objects, instances, semantic, or tracker (by SAM 2's memory where the model has one). Needs
segserve-client, numpy and, for polygons, contourpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image
import PIL.ImageDraw
from cvat_sdk.masks import decode_mask, encode_mask
from cvat_sdk.models import AttributeValRequest
from numpy.typing import NDArray

from segserve_client import Client, FramePrompt, Image, Object

Bool = NDArray[np.bool_]
Pixels = NDArray[np.uint8]  # of a frame, [height, width, 3]

OBJECT_LABEL = "object"  # of objects without a class
# The box on the next frame is larger than the object by this part of its edge, for the object moves.
BOX_EXTENSION = 0.1
# A mask that has less in common with the one before is another object: the tracked one is lost.
MIN_IOU = 0.2
# SAM 2 remembers the first frame and this many of the last ones. It would look back on six; each is encoded again with
# every new frame.
RECENT_FRAMES = 3
# Polygons may leave out vertices that move the line by less than this, in pixels.
TOLERANCE_PX = 1.0


class Interactor:
    """Masks for points and a box. A frame, or the region of it that the user works in, is encoded once."""

    spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, client: Client, model: str | None) -> None:
        self._client, self._model = client, model

    def preprocess_image(self, context: Any, image: PIL.Image.Image) -> Image:
        return upload(self._client, image, self._model)

    def detect(
        self, context: Any, pp_image: Image, prompts: cvataa.InteractionPrompts
    ) -> list[cvataa.InteractionResultShape]:
        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        box = prompts.bounding_box
        if not points and box is None:
            return []
        mask = pp_image.segment(
            points or None, labels or None, None if box is None else clip_box(np.ravel(box), pp_image.size)
        )
        if not mask.area:
            return []
        confidence = cvataa.InteractionResultAttributes.CONFIDENCE
        return [
            cvataa.InteractionResultShape(
                type="mask",
                points=encode_mask(mask.array),
                attributes=[
                    AttributeValRequest(spec_id=int(confidence), value=f"{min(max(mask.score, 0), 1):.4f}")
                ],
            )
        ]


class Detector:
    """All objects of a frame. kind: objects (AIS or AMG), instances (Mask R-CNN), or semantic."""

    def __init__(self, client: Client, model: str | None, kind: str) -> None:
        self._client, self._model, self._kind = client, model, kind
        self._ids = {name: number for number, name in enumerate(list_labels(client, model, kind), 1)}
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, number, type="mask") for name, number in self._ids.items()]
        )

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[cvataa.DetectionAnnotation]:
        threshold = context.conf_threshold
        items = self._find(upload(self._client, image), threshold)
        shapes: list[cvataa.DetectionAnnotation] = []
        for item in items:
            if threshold is not None and item.score is not None and item.score < threshold:
                continue
            label_id = self._ids[item.category or OBJECT_LABEL]
            if not context.conv_mask_to_poly:
                shapes.append(cvataa.mask(label_id, encode_mask(item.array)))
            elif (points := to_polygon(item.array)) is not None:
                shapes.append(cvataa.polygon(label_id, points))
        return shapes

    def _find(self, image: Image, threshold: float | None) -> Iterable[Object]:
        if self._kind == "semantic":
            return [item for item in image.semantic(model=self._model).objects if item.area]
        if self._kind == "instances":
            options = {} if threshold is None else {"score_threshold": threshold}
            return image.instances(model=self._model, **options)
        return image.automatic(model=self._model)


class Tracker:
    """Shapes followed from frame to frame: the mask of one frame, and the box around it, are the prompt on the next."""

    spec = cvataa.TrackingFunctionSpec(supported_shape_types=["rectangle", "polygon", "mask"])

    def __init__(self, client: Client, model: str | None) -> None:
        self._client, self._model = client, model

    def preprocess_image(self, context: Any, image: PIL.Image.Image) -> Image:
        return upload(self._client, image, self._model)

    def init_tracking_state(
        self, context: Any, pp_image: Image, shape: cvataa.TrackableShape
    ) -> dict[str, Bool]:
        return {"mask": to_mask(pp_image, shape)}

    def track(
        self, context: cvataa.TrackingFunctionShapeContext, pp_image: Image, state: dict[str, Bool]
    ) -> cvataa.TrackableShape | None:
        before = state["mask"]
        if not before.any():
            return None
        after = pp_image.segment(box=extend_box(before), mask=before).array
        if (before & after).sum() < MIN_IOU * (before | after).sum():
            return None
        points = to_points(after, context.original_shape_type)
        if points is None:
            return None
        state["mask"] = after
        return cvataa.TrackableShape(type=context.original_shape_type, points=points)


class SeenFrame(NamedTuple):
    """A frame on which a shape is known. prompt: `box` or `mask` of it, as `FramePrompt` takes them."""

    pixels: Pixels
    prompt: dict[str, Any]


class FollowedShape:
    """A shape that SAM 2 remembers.

    seen: the first frame and the last ones that it was on, in their order; none for a shape without pixels.
    together: the shapes that were begun on the same frame, this one too. ahead: the next frame and the mask on it, None
    where it is not there, if it was followed with another shape.
    """

    def __init__(self, seen: list[SeenFrame], together: list[FollowedShape]) -> None:
        self.seen, self.together = seen, together
        self.ahead: tuple[Pixels, Bool | None] | None = None

    def has_frames_of(self, other: FollowedShape) -> bool:
        return [id(frame.pixels) for frame in self.seen] == [id(frame.pixels) for frame in other.seen]

    def remember(self, pixels: Pixels, mask: Bool) -> None:
        first, *recent = [*self.seen, SeenFrame(pixels, {"mask": mask})]
        self.seen = [first, *recent[-RECENT_FRAMES:]]


class MemoryTracker:
    """Shapes followed by SAM 2's memory of earlier frames. A frame is a short job, for all shapes that began together.

    The agent keeps the frames that are remembered, and the service nothing.
    """

    spec = Tracker.spec

    def __init__(self, client: Client, model: str | None, image_size: int | None) -> None:
        self._client, self._model, self._image_size = client, model, image_size
        self._begun: tuple[Pixels, list[FollowedShape]] | None = None  # the latest frame that shapes began on

    def preprocess_image(self, context: Any, image: PIL.Image.Image) -> Pixels:
        return np.asarray(image.convert("RGB"))

    def init_tracking_state(
        self, context: Any, pp_image: Pixels, shape: cvataa.TrackableShape
    ) -> FollowedShape:
        if self._begun is None or self._begun[0] is not pp_image:
            self._begun = pp_image, []
        size = (pp_image.shape[0], pp_image.shape[1])
        if shape.type == "rectangle":
            first = [SeenFrame(pp_image, {"box": clip_box(shape.points, size)})]
        else:
            drawn = draw_shape(shape, size)
            first = [SeenFrame(pp_image, {"mask": drawn})] if drawn.any() else []
        together = self._begun[1]
        together.append(FollowedShape(first, together))
        return together[-1]

    def track(
        self, context: cvataa.TrackingFunctionShapeContext, pp_image: Pixels, state: FollowedShape
    ) -> cvataa.TrackableShape | None:
        if not state.seen:
            return None
        if state.ahead is None or state.ahead[0] is not pp_image:
            self._follow(pp_image, state)
        assert state.ahead is not None
        mask, state.ahead = state.ahead[1], None
        points = None if mask is None else to_points(mask, context.original_shape_type)
        if mask is None or points is None:
            return None
        state.remember(pp_image, mask)
        return cvataa.TrackableShape(type=context.original_shape_type, points=points)

    def _follow(self, pixels: Pixels, state: FollowedShape) -> None:
        """Find the shape on the next frame, and those that have been on the same frames."""
        shapes = [shape for shape in state.together if shape.has_frames_of(state)]
        objects = {
            number: [FramePrompt(index, **frame.prompt) for index, frame in enumerate(shape.seen)]
            for number, shape in enumerate(shapes, 1)
        }
        options = {} if self._image_size is None else {"image_size": self._image_size}
        frames = [*(frame.pixels for frame in state.seen), pixels]
        file = self._client.upload(np.stack(frames))
        try:
            job = self._client.video(
                file, objects, model=self._model, engine="memory", direction="forward", **options
            )
            try:
                [line] = job.results(start=len(frames) - 1)
            finally:
                job.delete()
        finally:
            self._client.delete_file(file)
        for number, shape in enumerate(shapes, 1):
            found = line.find(number)
            shape.ahead = pixels, None if found is None else found.array


def create(
    kind: str = "interactor",
    address: str = "http://127.0.0.1:8000",
    model: str | None = None,
    image_size: int | None = None,
) -> Interactor | Detector | Tracker | MemoryTracker:
    """Return a function. model: the service's default one if left out; a name for instances and semantic.

    image_size: of the input of a SAM 2 that follows shapes; a smaller one is faster and coarser.
    """
    client = Client(address)
    if kind == "interactor":
        return Interactor(client, model)
    if kind == "tracker":
        return (
            MemoryTracker(client, model, image_size) if has_memory(client, model) else Tracker(client, model)
        )
    if kind in ("objects", "instances", "semantic"):
        return Detector(client, model, kind)
    raise cvataa.BadFunctionError(
        f"kind is {kind!r}; it may be interactor, objects, instances, semantic or tracker"
    )


def upload(client: Client, image: PIL.Image.Image, model: str | None = None) -> Image:
    """Send a frame. model: begins to encode it at once."""
    return client.image(np.asarray(image.convert("RGB")), model=model)


def has_memory(client: Client, model: str | None) -> bool:
    """Whether a model follows objects by SAM 2's memory. model: the service's default one if left out."""
    return any(
        "memory" in item.engines
        for item in client.models()
        if (item.default if model is None else item.name == model)
    )


def list_labels(client: Client, model: str | None, kind: str) -> Sequence[str]:
    """Return the labels of a model. Raises BadFunctionError where there is no such model."""
    if kind == "objects":
        return [OBJECT_LABEL]
    for item in client.models():
        if item.kind == kind and model in (None, item.name):
            return list(dict.fromkeys(item.classes or ()))
    raise cvataa.BadFunctionError(f"the service has no model {model or ''} of kind {kind}")


def clip_box(box: Sequence[float] | NDArray[Any], size: tuple[int, int]) -> list[float]:
    """Return a box as far as it is on the image. size: height, width."""
    height, width = size
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]


def bounding_box(mask: Bool) -> list[float]:
    """Return x0, y0, x1, y1 around a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def extend_box(mask: Bool) -> list[float]:
    x0, y0, x1, y1 = bounding_box(mask)
    by_x, by_y = BOX_EXTENSION * (x1 - x0), BOX_EXTENSION * (y1 - y0)
    return clip_box([x0 - by_x, y0 - by_y, x1 + by_x, y1 + by_y], (mask.shape[0], mask.shape[1]))


def to_mask(image: Image, shape: cvataa.TrackableShape) -> Bool:
    """Return the mask of a shape: for a rectangle, of what is in it."""
    if shape.type == "rectangle":
        return image.segment(box=clip_box(shape.points, image.size)).array
    return draw_shape(shape, image.size)


def draw_shape(shape: cvataa.TrackableShape, size: tuple[int, int]) -> Bool:
    """Return the pixels in a polygon or a mask. size: height, width."""
    height, width = size
    if shape.type == "mask":
        return decode_mask(shape.points, image_width=width, image_height=height)
    picture = PIL.Image.new("1", (width, height))
    corners = [(x - 0.5, y - 0.5) for x, y in np.reshape(shape.points, (-1, 2)).tolist()]
    PIL.ImageDraw.Draw(picture).polygon(corners, fill=1)
    return np.array(picture)


def to_points(mask: Bool, kind: str) -> list[float] | None:
    """Return the points of a shape around a mask; None for an empty one."""
    if not mask.any():
        return None
    if kind == "rectangle":
        return bounding_box(mask)
    return encode_mask(mask) if kind == "mask" else to_polygon(mask)


def to_polygon(mask: Bool) -> list[float] | None:
    """Return x, y of each vertex of the outline of the largest part, without holes; None for an empty mask."""
    import contourpy

    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    rings = [
        simplify(line[:-1] - 0.5) for line in lines
    ]  # the padding is 1, and a pixel's centre lies at 0.5
    rings = [ring for ring in rings if len(ring) >= 3]
    return max(rings, key=enclosed_area).ravel().tolist() if rings else None


def enclosed_area(ring: NDArray[Any]) -> float:
    """Return the area inside a ring [N, 2], by the shoelace formula."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def simplify(ring: NDArray[Any]) -> NDArray[Any]:
    """Return a ring [N, 2] without the vertices that are near the line between those that stay (Douglas, Peucker)."""
    middle = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    keep = np.zeros(len(ring) + 1, bool)
    keep[[0, middle, len(ring)]] = True
    closed = np.vstack([ring, ring[:1]])
    spans = [(0, middle), (middle, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        (x, y), points = closed[last] - closed[first], closed[first + 1 : last] - closed[first]
        distances = np.abs(points[:, 0] * y - points[:, 1] * x) / (float(np.hypot(x, y)) or 1.0)
        if distances.max() > TOLERANCE_PX:
            split = first + 1 + int(distances.argmax())
            keep[split] = True
            spans += [(first, split), (split, last)]
    return ring[keep[:-1]]
