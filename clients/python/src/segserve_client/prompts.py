"""Prompts: what a user marks on an image, a frame or a slice, and the JSON of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segserve_client.rle import Rle

Json = dict[str, Any]
MaskLike = Rle | NDArray[Any]


@dataclass(frozen=True)
class Prompt:
    """What marks one object. Coordinates are pixels of the image, (x, y), origin top left.

    points: [n, 2], or one point (x, y). labels: [n], 1 on the object and 0 not; all 1 if left out.
    box: x0, y0, x1, y1 around the object.
    mask: of the object, [height, width] of the image, to refine it. mask_id: of an answer, instead of its mask.
    """

    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    box: ArrayLike | None = None
    mask: MaskLike | None = None
    mask_id: str | None = None

    def to_json(self) -> Json:
        """Return the prompt as the service takes it. Raises ValueError for wrong shapes."""
        body: Json = {}
        if self.points is not None:
            points = np.atleast_2d(np.asarray(self.points, np.float64))
            if points.ndim != 2 or points.shape[1] != 2:
                raise ValueError(f"points are [n, 2], each x and y, not {np.shape(self.points)}")
            body["points"] = points.tolist()
        if self.labels is not None:
            body["labels"] = np.atleast_1d(np.asarray(self.labels)).astype(np.int64).tolist()
        if self.box is not None:
            box = np.asarray(self.box, np.float64).ravel()
            if box.size != 4:
                raise ValueError(f"a box is x0, y0, x1, y1, not {self.box!r}")
            body["box"] = box.tolist()
        if self.mask_id is not None:
            body["mask_id"] = self.mask_id
        elif self.mask is not None:
            body["mask"] = rle_to_json(to_rle(self.mask))
        return body


@dataclass(frozen=True)
class FramePrompt:
    """What marks an object on one frame of a video, or one slice of a volume.

    frame: its number, from 0. The others are those of `Prompt`.
    """

    frame: int
    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    box: ArrayLike | None = None
    mask: MaskLike | None = None

    def to_json(self) -> Json:
        """Return the prompt as the service takes it. Raises ValueError for wrong shapes."""
        prompt = Prompt(self.points, self.labels, self.box, self.mask)
        return {"frame": int(self.frame), **prompt.to_json()}


# The prompts of each object, by its number.
Objects = Mapping[int, FramePrompt | Sequence[FramePrompt]]


def to_rle(mask: MaskLike) -> Rle:
    return mask if isinstance(mask, Rle) else Rle.from_array(np.asarray(mask))


def rle_to_json(mask: Rle) -> Json:
    return {"size": list(mask.size), "counts": mask.counts}


def objects_to_json(objects: Objects, names: Mapping[int, str]) -> list[Json]:
    """Return the objects of a job as the service takes them."""
    result: list[Json] = []
    for object_id, prompts in objects.items():
        listed = [prompts] if isinstance(prompts, FramePrompt) else list(prompts)
        named = {"name": names[object_id]} if object_id in names else {}
        result.append(
            {"object_id": int(object_id), **named, "prompts": [prompt.to_json() for prompt in listed]}
        )
    return result
