"""Prompts made from a volume of labels: every way to choose and to mark slices that arXiv 2408.00756 compares."""

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.file_library import FileLibrary
from segserve.files.file_view import view_shape
from segserve.files.open_file import open_volume
from segserve.masks import crop, rle
from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.types import DEFAULT_TENANT, Bool, FileKind, FileRecord, UInt16
from segserve.wire.schemas.common import Rle
from segserve.wire.schemas.propagation import (
    MAX_OBJECT_ID,
    MAX_OBJECTS,
    FramePromptIn,
    ObjectPromptsIn,
    ReferenceIn,
)

FIELD = "params.reference"


async def objects(
    files: FileLibrary, image: FileRecord, axis: int, asked: ReferenceIn
) -> list[ObjectPromptsIn]:
    """Raises FileNotFound, BadInput, TooLarge."""
    async with files.local_copy(DEFAULT_TENANT, asked.file_id) as (record, path):
        if record.kind is not FileKind.VOLUME or view_shape(record, axis) != view_shape(image, axis):
            raise BadInput(
                "The reference is no volume of the file's own size.",
                field=f"{FIELD}.file_id",
                remedy="Send the labels of this very volume as NIfTI, NRRD or MetaImage.",
            )

        def read() -> list[ObjectPromptsIn]:
            with open_volume(path, record.format, files.limits) as volume:
                return mark(np.moveaxis(volume.voxels(), axis, 0), asked)

        return await asyncio.to_thread(read)


def mark(volume: NDArray[Any], asked: ReferenceIn) -> list[ObjectPromptsIn]:
    """volume [N, H, W], 0 for what is no object. Blocks. Raises BadInput."""
    labels = checked(volume)
    areas = np.stack([np.bincount(each.ravel(), minlength=int(labels.max()) + 1) for each in labels])
    known: list[int] = (np.flatnonzero(areas.sum(axis=0)[1:]) + 1).tolist()
    wanted = known if asked.labels is None else list(dict.fromkeys(asked.labels))
    for label in wanted:
        if label not in known:
            raise BadInput(
                f"The reference has no label {label}.",
                field=f"{FIELD}.labels",
                remedy=f"It has {', '.join(map(str, known[:20])) or 'none'}.",
            )
    if not 0 < len(wanted) <= MAX_OBJECTS:
        raise BadInput(
            f"The reference has {len(wanted)} labels.",
            field=f"{FIELD}.labels",
            remedy=f"Name from 1 to {MAX_OBJECTS} of them.",
        )
    return [
        ObjectPromptsIn(
            object_id=label,
            prompts=[marked(labels[at] == label, at, asked) for at in chosen(areas[:, label], asked)],
        )
        for label in wanted
    ]


def checked(volume: NDArray[Any]) -> UInt16:
    """Raises BadInput for values that are no labels."""
    for each in volume:
        if (
            not np.isfinite(each).all()
            or each.min() < 0
            or each.max() > MAX_OBJECT_ID
            or (each != np.rint(each)).any()
        ):
            raise BadInput(
                f"The reference has values that are not whole numbers from 0 to {MAX_OBJECT_ID}.",
                field=f"{FIELD}.file_id",
                remedy="Send labels, 0 for the background.",
            )
    return volume.astype(np.uint16)


def chosen(areas: NDArray[np.int64], asked: ReferenceIn) -> list[int]:
    """areas: of an object, by slice. The slice asked for, and others as far from each other as can be."""
    there = np.flatnonzero(areas)
    match asked.slices:
        case "first":
            begin = there[0]
        case "centre":
            begin = there[len(there) // 2]
        case "largest":
            begin = int(areas.argmax())
    found = [int(begin)]
    while len(found) < min(asked.annotated, len(there)):
        apart = np.abs(there[:, None] - np.array(found)[None]).min(axis=1)
        found.append(int(there[apart.argmax()]))
    return sorted(found)


def marked(mask: Bool, at: int, asked: ReferenceIn) -> FramePromptIn:
    """mask [H, W], not empty."""
    match asked.prompt:
        case "points":
            return FramePromptIn(frame=at, points=deepest(mask, asked.points))
        case "box":
            x0, y0, x1, y1 = bounding_box(mask)
            return FramePromptIn(frame=at, box=(float(x0), float(y0), float(x1), float(y1)))
        case "mask":
            counts = rle.encode(crop.from_mask(mask))
            return FramePromptIn(frame=at, mask=Rle(size=(mask.shape[0], mask.shape[1]), counts=counts))


def deepest(mask: Bool, count: int) -> list[tuple[float, float]]:
    """(x, y) of points on the mask, each as far as can be from its outside and from those before."""
    free, found = mask.copy(), list[tuple[float, float]]()
    while len(found) < count and free.any():
        x, y = deepest_pixel(free)
        found.append((float(x), float(y)))
        free[y, x] = False
    return found
