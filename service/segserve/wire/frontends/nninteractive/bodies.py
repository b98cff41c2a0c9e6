"""The requests of the client: JSON bodies, and the JSON of the header X-Meta beside packed arrays."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from starlette.requests import Request

from segserve.errors import BadInput, UnsupportedFormat
from segserve.wire.frontends.json_body import Body, ClientBody, parse_body, read_client_json
from segserve.wire.frontends.nninteractive.volume_mask import ArrayBox, Shape
from segserve.wire.http.media_type import JSON, read_media_type

META_HEADER = "X-Meta"
MAX_META_VALUES = 1024
# Voxels along a side of a box that stand for all.
MAX_SPREAD_SIDE = 64

Edge = Annotated[int, Field(ge=1, lt=1 << 31)]
Coordinate = Annotated[FiniteFloat, Field(ge=-(1 << 31), lt=1 << 31)]
Side = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
Sides = Annotated[list[Side], Field(min_length=3, max_length=3)]


class ImageProperties(ClientBody):
    """spacing: of the voxels along the axes of the array."""

    spacing: list[FiniteFloat] | None = Field(None, max_length=3)


class SetImageIn(ClientBody):
    image_properties: ImageProperties = Field(default_factory=ImageProperties)


class TargetBufferIn(ClientBody):
    shape: list[Edge] = Field(min_length=3, max_length=3)
    dtype: str = Field(max_length=16)


class InteractionIn(ClientBody):
    """include_interaction: whether it is on the object. run_prediction: whether the mask is computed at once."""

    include_interaction: bool = True
    run_prediction: bool = True


class PointIn(InteractionIn):
    """coordinates: of a voxel of the array."""

    coordinates: list[Coordinate] = Field(min_length=3, max_length=3)


class BoxIn(InteractionIn):
    """bbox_coords: begin and end (exclusive) along each axis of the array. One of them is a single slice."""

    bbox_coords: Sides


class DrawingIn(InteractionIn):
    """interaction_bbox: where the array lies that comes with it; None: it is as large as the image."""

    interaction_bbox: Sides | None = None


class InitialSegIn(ClientBody):
    run_prediction: bool = False


async def read_json_body(request: Request, schema: type[Body]) -> Body:
    """Return a JSON body. One of another type may be as large as a file, and is not read.

    Raises UnsupportedFormat, and what `read_client_json` raises.
    """
    if read_media_type(request.headers.raw) != JSON:
        raise UnsupportedFormat(
            "The body is not JSON.",
            field="content-type",
            remedy="Send it with Content-Type: application/json.",
        )
    return await read_client_json(request, schema)


def read_meta(request: Request, schema: type[Body]) -> Body:
    """Return what the header X-Meta says. Raises BadInput, TooLarge, RequestValidationError."""
    return parse_body(request.headers.get(META_HEADER, "{}").encode("latin-1"), schema, MAX_META_VALUES)


def to_voxel(coordinates: list[float], shape: Shape) -> list[int]:
    """Return the voxel of a point. Raises BadInput where it is none of the image."""
    voxel = [round(coordinate) for coordinate in coordinates]
    if not all(0 <= place < side for place, side in zip(voxel, shape, strict=True)):
        raise BadInput(
            f"{coordinates} is no voxel of the image.",
            field="coordinates",
            remedy=f"Send places from 0 to below {list(shape)}, in the order of the array's axes.",
        )
    return voxel


def to_array_box(sides: list[list[float]], shape: Shape) -> ArrayBox:
    """Return a box that is clipped to the image. Raises BadInput where nothing of it is left."""
    clipped = [
        (max(0, round(begin)), min(side, round(end))) for (begin, end), side in zip(sides, shape, strict=True)
    ]
    if not all(begin < end for begin, end in clipped):
        raise BadInput(
            f"The box {sides} has nothing of the image.",
            field="bbox_coords",
            remedy="Send begin and end (exclusive) along each axis of the array.",
        )
    return clipped[0], clipped[1], clipped[2]


def spread_voxels(box: ArrayBox) -> NDArray[np.int64]:
    """Return voxels [N, 3] of a box, evenly spread: all of a small one."""
    sides = [
        np.unique(np.linspace(begin, end - 1, min(end - begin, MAX_SPREAD_SIDE)).round().astype(np.int64))
        for begin, end in box
    ]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def find_plane(box: Any, axis: int) -> int:
    """Return the axis across which a box of a single slice lies; `axis` where it can be that one. Raises BadInput."""
    flat = [number for number, (begin, end) in enumerate(box) if end - begin == 1]
    if not flat:
        raise BadInput(
            "The drawing is on several slices.",
            field="bbox_coords",
            remedy="Draw it on one slice: begin and end of one side are one apart.",
        )
    return axis if axis in flat else flat[0]
