"""Prompts of a volume job made from a label volume: all ways to choose slices and kinds of prompts that are compared in
arXiv 2408.00756."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.file_library import FileLibrary
from segserve.files.file_view import FileView
from segserve.files.match_grid import match_grid
from segserve.identity.identity import current_tenant
from segserve.masks import crop, rle
from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.rendering.source_file import SourceFile
from segserve.types import Bool, FileKind, FileRecord, UInt16
from segserve.wire.schemas.prompts import Rle
from segserve.wire.schemas.propagation import (
    MAX_OBJECT_ID,
    MAX_OBJECTS,
    FramePromptIn,
    ObjectPromptsIn,
    ReferenceIn,
)

FIELD = "params.reference"
MAX_LISTED_LABELS = 20  # in an error message


async def read_reference_prompts(
    files: FileLibrary, image: FileRecord, axis: int, reference: ReferenceIn
) -> list[ObjectPromptsIn]:
    """Read the label volume, bring it to the grid of `image`, and make the prompts of each object.

    image: the volume that the job works on.

    Raises FileNotFound, BadInput, TooLarge.
    """
    async with (
        files.local_copy(current_tenant(), reference.file_id) as (record, path),
        files.local_copy(current_tenant(), image.file_id) as (_, image_path),
    ):
        if record.kind is not FileKind.VOLUME:
            raise BadInput(
                "The reference is not a volume.",
                field=f"{FIELD}.file_id",
                remedy="Send the labels of this volume as NIfTI, NRRD or MetaImage.",
            )

        readers = files.readers.group()
        scan = SourceFile(FileView(image.file_id), image, image_path, readers)

        def read() -> list[ObjectPromptsIn]:
            with readers.open_volume(path, record.format, record.options) as volume:
                field = f"{FIELD}.file_id"
                labels = match_grid(volume.voxels(), volume.geometry, scan.read_geometry(), field=field)
                return create_prompts(np.moveaxis(labels, axis, 0), reference)

        return await readers.run(read)


def create_prompts(volume: NDArray[Any], reference: ReferenceIn) -> list[ObjectPromptsIn]:
    """Make the prompts of each object. volume [N, H, W]: labels, 0 is background. Blocks. Raises BadInput."""
    labels = to_labels(volume)
    areas = np.stack([np.bincount(plane.ravel(), minlength=int(labels.max()) + 1) for plane in labels])
    existing: list[int] = (np.flatnonzero(areas.sum(axis=0)[1:]) + 1).tolist()
    chosen = existing if reference.labels is None else list(dict.fromkeys(reference.labels))
    for label in chosen:
        if label not in existing:
            raise BadInput(
                f"The reference has no label {label}.",
                field=f"{FIELD}.labels",
                remedy=f"It has {', '.join(map(str, existing[:MAX_LISTED_LABELS])) or 'none'}.",
            )
    if not 0 < len(chosen) <= MAX_OBJECTS:
        raise BadInput(
            f"The reference has {len(chosen)} labels.",
            field=f"{FIELD}.labels",
            remedy=f"Name from 1 to {MAX_OBJECTS} of them.",
        )
    return [
        ObjectPromptsIn(
            object_id=label,
            prompts=[
                create_prompt(labels[index] == label, index, reference)
                for index in choose_slices(areas[:, label], reference)
            ],
        )
        for label in chosen
    ]


def to_labels(volume: NDArray[Any], *, field: str = f"{FIELD}.file_id") -> UInt16:
    """Convert to label values, slice by slice. Raises BadInput about `field` for values that are no labels."""
    for plane in volume:
        if (
            not np.isfinite(plane).all()
            or plane.min() < 0
            or plane.max() > MAX_OBJECT_ID
            or (plane != np.rint(plane)).any()
        ):
            raise BadInput(
                f"The labels have values that are not whole numbers from 0 to {MAX_OBJECT_ID}.",
                field=field,
                remedy="Send labels, 0 for the background.",
            )
    return volume.astype(np.uint16)


def choose_slices(areas: NDArray[np.int64], reference: ReferenceIn) -> list[int]:
    """The slices of an object that get prompts: the one that the reference asks for, then each as far from the others
    as possible. areas: pixels of the object on each slice."""
    occupied = np.flatnonzero(areas)
    match reference.slices:
        case "first":
            first = occupied[0]
        case "centre":
            first = occupied[len(occupied) // 2]
        case "largest":
            first = int(areas.argmax())
    chosen = [int(first)]
    while len(chosen) < min(reference.annotated, len(occupied)):
        distances = np.abs(occupied[:, None] - np.array(chosen)[None]).min(axis=1)
        chosen.append(int(occupied[distances.argmax()]))
    return sorted(chosen)


def create_prompt(mask: Bool, index: int, reference: ReferenceIn) -> FramePromptIn:
    """The prompt on one slice. mask [H, W]: the object on it, not empty. index: of the slice."""
    match reference.prompt:
        case "points":
            return FramePromptIn(frame=index, points=find_deep_points(mask, reference.points))
        case "box":
            x0, y0, x1, y1 = bounding_box(mask)
            return FramePromptIn(frame=index, box=(float(x0), float(y0), float(x1), float(y1)))
        case "mask":
            counts = rle.encode(crop.from_mask(mask))
            return FramePromptIn(frame=index, mask=Rle(size=(mask.shape[0], mask.shape[1]), counts=counts))


def find_deep_points(mask: Bool, count: int) -> list[tuple[float, float]]:
    """Up to `count` points (x, y) on the mask, each as far as possible from the outside and from earlier points."""
    free, points = mask.copy(), list[tuple[float, float]]()
    while len(points) < count and free.any():
        x, y = deepest_pixel(free)
        points.append((float(x), float(y)))
        free[y, x] = False
    return points
