"""Drawings of smart tools, as prompts.

Label Studio sends all that was drawn with one tool and one label and is not accepted yet: points of one object, or
several boxes. So each box is an object of its own, with the points in it; all points that are in no box are one more.
Points that are not on the object count for every one of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segserve.errors import BadInput
from segserve.masks import crop, rle
from segserve.types import Size
from segserve.wire.frontends.label_studio import brush_rle
from segserve.wire.frontends.label_studio.bodies import RegionIn
from segserve.wire.frontends.label_studio.brush_rle import CHANNELS
from segserve.wire.operations.segment import check_mask_pixels

Json = dict[str, Any]

# Of a box, in pixels: Label Studio sends boxes as small as nothing.
MIN_EDGE_PX = 0.5
BRUSHES = ("brush", "brushlabels")


@dataclass
class ObjectPrompt:
    """The prompt of an object, in pixels of the image. box: x0, y0, x1, y1. label: that it was drawn with."""

    label: str | None
    box: tuple[float, float, float, float] | None = None
    mask: Json | None = None
    points: list[tuple[float, float, bool]] = field(default_factory=list)

    def to_json(self) -> Json:
        """Return the JSON of `PromptIn`."""
        prompt: Json = {
            "points": [[x, y] for x, y, _ in self.points],
            "labels": [int(is_positive) for *_, is_positive in self.points],
        }
        if self.box is not None:
            prompt["box"] = list(self.box)
        if self.mask is not None:
            prompt["mask"] = self.mask
        return prompt

    def has_inside(self, x: float, y: float) -> bool:
        return self.box is not None and self.box[0] <= x <= self.box[2] and self.box[1] <= y <= self.box[3]


def read_prompts(regions: Sequence[RegionIn], size: Size) -> list[ObjectPrompt]:
    """Return the prompts, none where nothing says what is meant. Blocks where there are brushes. Raises BadInput,
    TooLarge."""
    check_mask_pixels(
        CHANNELS * sum(region.type in BRUSHES for region in regions), size, "params.context.result"
    )
    objects: list[ObjectPrompt] = []
    points: list[tuple[str | None, float, float, bool]] = []
    for region in regions:
        if region.image_rotation:
            raise BadInput(
                "The image is turned.", field="params.context.result", remedy="Turn it back for smart tools."
            )
        shape = region.type.removesuffix("labels")
        if shape == "keypoint":
            x, y = to_pixels(region, region.number("x"), region.number("y"), size)
            points.append((region.label, x, y, is_positive(region)))
        elif shape in ("rectangle", "ellipse"):
            objects.append(ObjectPrompt(region.label, box=read_box(region, shape, size)))
        elif region.type in BRUSHES:
            objects.append(ObjectPrompt(region.label, mask=read_mask(region, size)))
        else:
            raise BadInput(
                f"{region.type!r} is no prompt.",
                field="params.context.result",
                remedy="Use the smart keypoint, rectangle, ellipse or brush.",
            )
    loose: dict[str | None, ObjectPrompt] = {}
    for label, x, y, positive in points:
        inside = [item for item in objects if item.label == label and item.has_inside(x, y)]
        if positive and not inside:
            inside = [loose.setdefault(label, ObjectPrompt(label))]
        if positive:
            for item in inside:
                item.points.append((x, y, True))
    objects.extend(loose.values())
    for label, x, y, positive in points:
        if not positive:
            for item in objects:
                if item.label == label:
                    item.points.append((x, y, False))
    return objects


def is_positive(region: RegionIn) -> bool:
    """Return whether a point is on the object. Interactive video says it in the value."""
    if region.is_positive is not None:
        return region.is_positive
    return region.value.get("positive") is not False


def to_pixels(region: RegionIn, x: float, y: float, size: Size) -> tuple[float, float]:
    """Convert percent of the image. A point on the edge becomes the last pixel. Raises BadInput."""
    if not (math.isfinite(x) and math.isfinite(y)):
        raise BadInput("It has no place.", field=f"{region.type}.value", remedy="Draw it again.")
    return (
        min(max(x / 100 * size.width, 0.0), size.width - 1.0),
        min(max(y / 100 * size.height, 0.0), size.height - 1.0),
    )


def read_box(region: RegionIn, shape: str, size: Size) -> tuple[float, float, float, float]:
    """Return the box around a rectangle or an ellipse, which may be turned."""
    x, y = region.number("x"), region.number("y")
    if shape == "ellipse":
        radius_x, radius_y = region.number("radiusX"), region.number("radiusY")
        corners = [(-radius_x, -radius_y), (radius_x, -radius_y), (radius_x, radius_y), (-radius_x, radius_y)]
    else:
        width, height = region.number("width"), region.number("height")
        corners = [(0, 0), (width, 0), (width, height), (0, height)]
    turn = math.radians(region.number("rotation") if "rotation" in region.value else 0)
    # It is turned in pixels, around the point that x and y say.
    unit_x, unit_y = size.width / 100, size.height / 100
    xs, ys = [], []
    for right, down in corners:
        right_px, down_px = right * unit_x, down * unit_y
        xs.append(x * unit_x + right_px * math.cos(turn) - down_px * math.sin(turn))
        ys.append(y * unit_y + right_px * math.sin(turn) + down_px * math.cos(turn))
    if not all(map(math.isfinite, (*xs, *ys))):
        raise BadInput("It has no place.", field=f"{region.type}.value", remedy="Draw it again.")
    x0, x1 = clip_edge(min(xs), max(xs), size.width)
    y0, y1 = clip_edge(min(ys), max(ys), size.height)
    return x0, y0, x1, y1


def clip_edge(low: float, high: float, length: int) -> tuple[float, float]:
    """Return an edge of a box that is on the image, and not empty."""
    low = min(max(low, 0.0), length - MIN_EDGE_PX)
    return low, min(max(high, low + MIN_EDGE_PX), float(length))


def read_mask(region: RegionIn, size: Size) -> Json:
    """Return what was painted, as the JSON of a mask. Blocks. Raises BadInput."""
    name, values = "params.context.result.value.rle", region.value.get("rle")
    try:
        data = bytes(values) if isinstance(values, list) else b""
    except (TypeError, ValueError):
        data = b""
    mask = brush_rle.decode(data, size, name)
    if not mask.any():
        raise BadInput("Nothing is painted.", field=name, remedy="Paint on the object.")
    return {"size": [size.height, size.width], "counts": rle.encode(crop.from_mask(mask))}
