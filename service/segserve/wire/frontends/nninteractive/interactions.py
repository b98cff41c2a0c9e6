"""Drawings in a volume, as prompts on slices: the models that answer see one slice at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.errors import BadInput
from segserve.masks import crop, rle
from segserve.masks.geometry import bounding_box
from segserve.wire.frontends.nninteractive.volume_mask import ArrayBox, Shape, VolumeMask, slice_size
from segserve.wire.schemas.prompts import MAX_POINTS

Json = dict[str, Any]
Coordinates = NDArray[np.int64]  # [N, 3], of the volume's array

# Points that a drawing becomes on one slice, and slices on which it becomes points.
MAX_DRAWN_POINTS = 6
MAX_DRAWN_SLICES = 16
# Voxels of a drawing that its points are chosen from, on one slice.
MAX_SAMPLED_VOXELS = 2048
# Slices of an earlier segmentation that become prompts, evenly spread.
MAX_SEED_SLICES = 16
# How much farther apart slices must be along one axis than along the others to be what a scanner made.
MIN_ANISOTROPY = 1.1


@dataclass(frozen=True)
class SlicePrompt:
    """The prompt on one slice. points: (x, y). labels: 1 on the object, 0 not. mask: run lengths, to refine."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None

    @property
    def is_positive(self) -> bool:
        return self.box is not None or self.mask is not None or 1 in self.labels

    @property
    def has_points_only(self) -> bool:
        return self.box is None and self.mask is None

    def add_points(self, points: list[tuple[float, float]], label: int) -> "SlicePrompt":
        """Return the prompt with further points. Raises BadInput for too many."""
        if len(self.points) + len(points) > MAX_POINTS:
            raise BadInput(
                f"A slice has {len(self.points)} points.",
                field="coordinates",
                remedy=f"Place up to {MAX_POINTS}, or reset the interactions.",
            )
        return replace(self, points=(*self.points, *points), labels=(*self.labels, *[label] * len(points)))


@dataclass(frozen=True)
class Interactions:
    """`Interactions` is all that a user drew for one object.

    axis: across which the slices lie. has_plane: whether a drawing in its plane has fixed it.
    prompts: by slice.
    """

    axis: int
    has_plane: bool = False
    prompts: Mapping[int, SlicePrompt] = field(default_factory=dict)

    @property
    def text_bytes(self) -> int:
        """Memory of the masks' run lengths."""
        return sum(len(prompt.mask) for prompt in self.prompts.values() if prompt.mask is not None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing says where the object is."""
        return not any(prompt.is_positive for prompt in self.prompts.values())

    def add_voxels(self, voxels: Coordinates, mask: VolumeMask, *, include: bool) -> "Interactions":
        """Add voxels that are on the object, or are not. Blocks.

        mask: of the object so far. It is refined on a slice that has no prompt yet. Of voxels that are not on the
        object those count that it has, if there are some; on a slice without the object they change nothing.
        """
        if not include and (inside := mask.contains(voxels)).any():
            voxels = voxels[inside]
        added = self
        indices = np.unique(voxels[:, self.axis])
        spread = np.linspace(0, len(indices) - 1, min(len(indices), MAX_DRAWN_SLICES))
        for index in indices[np.unique(spread.round().astype(int))].tolist():
            drawn = voxels[voxels[:, self.axis] == index]
            added = added._add_on_slice(index, choose_spread(drawn, self.axis), mask, include=include)
        return added

    def _add_on_slice(
        self, index: int, points: list[tuple[float, float]], mask: VolumeMask, *, include: bool
    ) -> "Interactions":
        known = mask.counts.get(index) if mask.axis == self.axis else None
        prompt = self.prompts.get(index, SlicePrompt(mask=known))
        if not include and not prompt.is_positive:
            return self  # there is nothing to take away
        return self.put(index, prompt.add_points(points, int(include)))

    def put(self, index: int, prompt: SlicePrompt) -> "Interactions":
        return replace(self, prompts={**self.prompts, index: prompt})

    def in_plane(self, axis: int, shape: Shape) -> "Interactions":
        """Return the same for drawings in the plane across `axis`.

        Raises BadInput where drawings in another plane were made already, or an earlier segmentation.
        """
        if axis == self.axis:
            return replace(self, has_plane=True)
        if self.has_plane or not all(prompt.has_points_only for prompt in self.prompts.values()):
            raise BadInput(
                f"The object was begun in planes across axis {self.axis} of the array, this is one across {axis}.",
                field="interaction",
                remedy="Draw boxes and lassos of one object in parallel planes, and points and scribbles in any;"
                " or reset the interactions.",
            )
        turned = Interactions(axis, has_plane=True)
        nothing = VolumeMask(shape, axis)
        for index, prompt in self.prompts.items():
            for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
                voxel = np.array([to_voxel(self.axis, index, x, y)])
                turned = turned.add_voxels(voxel, nothing, include=label == 1)
        return turned

    def add_box(self, box: ArrayBox, axis: int, shape: Shape) -> "Interactions":
        """Add the rectangle around the object on one slice across `axis`. Raises BadInput."""
        turned = self.in_plane(axis, shape)
        (y0, y1), (x0, x1) = (side for number, side in enumerate(box) if number != axis)
        index = box[axis][0]
        prompt = turned.prompts.get(index, SlicePrompt())
        return turned.put(index, replace(prompt, box=(x0, y0, x1, y1)))

    def add_outline(self, voxels: Coordinates, axis: int, shape: Shape) -> "Interactions":
        """Add an outline around the object, or its inside, on one slice across `axis`. Blocks. Raises BadInput."""
        turned = self.in_plane(axis, shape)
        size = slice_size(shape, axis)
        drawn = np.zeros((size.height, size.width), np.bool_)
        rows, columns = np.delete(voxels, axis, axis=1).T
        drawn[rows, columns] = True
        drawn = ndimage.binary_fill_holes(drawn)
        x0, y0, x1, y1 = bounding_box(drawn)
        counts = rle.encode(crop.from_mask(drawn))
        index = int(voxels[0, axis])
        prompt = turned.prompts.get(index, SlicePrompt())
        return turned.put(index, replace(prompt, mask=counts, box=(x0, y0, x1, y1)))


def seed_interactions(mask: VolumeMask) -> Interactions:
    """Return an earlier segmentation as prompts: on some of its slices, the first and the last among them."""
    indices = sorted(mask.counts)
    spread = np.linspace(0, len(indices) - 1, min(len(indices), MAX_SEED_SLICES)).round().astype(int)
    prompts = {indices[number]: SlicePrompt(mask=mask.counts[indices[number]]) for number in spread.tolist()}
    return Interactions(mask.axis, has_plane=bool(prompts), prompts=prompts)


def choose_axis(shape: Shape, spacing: list[float] | None) -> int:
    """Return the axis of the array across which a scanner has made its slices, as far as is known.

    spacing: of the voxels along the axes. Without it, or where it is even, the shortest axis.
    """
    usable = spacing is not None and len(spacing) == len(shape) and min(spacing) > 0
    if spacing is not None and usable and max(spacing) >= MIN_ANISOTROPY * min(spacing):
        return int(np.argmax(spacing))
    return int(np.argmin(shape))


def to_voxel(axis: int, index: int, x: float, y: float) -> tuple[int, int, int]:
    voxel = [int(y), int(x)]
    voxel.insert(axis, index)
    return voxel[0], voxel[1], voxel[2]


def choose_spread(voxels: Coordinates, axis: int) -> list[tuple[float, float]]:
    """Return (x, y) of some voxels of a slice, as far from each other as they can be; the first is in their middle."""
    places = np.delete(voxels, axis, axis=1)[:, ::-1].astype(np.float64)
    if len(places) > MAX_SAMPLED_VOXELS:
        places = places[np.linspace(0, len(places) - 1, MAX_SAMPLED_VOXELS).astype(int)]
    middle = np.square(places - places.mean(axis=0)).sum(axis=1)
    chosen = [int(middle.argmin())]
    distances = np.square(places - places[chosen[0]]).sum(axis=1)
    while len(chosen) < MAX_DRAWN_POINTS and distances.max() > 0:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.square(places - places[chosen[-1]]).sum(axis=1))
    return [(x, y) for x, y in places[chosen].tolist()]
