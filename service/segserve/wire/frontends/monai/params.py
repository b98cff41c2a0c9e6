"""The field `params` of a request: points, a region of interest, and how the answer is written.

Coordinates are indices of voxels, (i, j) or (i, j, k), of the volume as it is stored: i counts columns, j rows and k
slices.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, field_validator

from segserve.errors import BadInput
from segserve.wire.frontends.json_body import ClientBody, parse_body
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES
from segserve.wire.schemas.prompts import MAX_POINTS

Json = dict[str, Any]

# Values of the whole field: points of all labels, and settings that clients send along.
MAX_VALUES = 1 << 14
MAX_LABELS = 256
CORNER_VALUES = 4
AXIS_VALUES = 6
MIN_COORDINATES = 2

Point = Annotated[list[FiniteFloat], Field(min_length=2, max_length=3)]
Extension = Literal[".nii", ".nii.gz", ".nrrd", ".mha", ".png"]
DType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]


class LabelInfo(ClientBody):
    """A label of a DICOM SEG."""

    name: str = Field("", max_length=64)


class InferIn(ClientBody):
    """The JSON of `params`.

    foreground, background: points on the object, and beside it. roi: four values are the corners i0, j0, i1, j1 of a
    box, six are pairs i0, i1, j0, j1, k0, k1. slice: k of the points that count.
    window_center, window_width: values of the volume that are shown from black to white; 0: as the file says.
    result_compress: NRRD and MetaImage; OHIF says no, for it reads them raw.
    separate_objects: of models without clicks: each object has a value of its own.
    """

    foreground: list[Point] = Field([], max_length=MAX_POINTS)
    background: list[Point] = Field([], max_length=MAX_POINTS)
    roi: list[FiniteFloat] = Field([], max_length=AXIS_VALUES)
    slice: int | None = None
    label: str = Field("", max_length=255)
    label_info: list[LabelInfo] = Field([], max_length=MAX_LABELS)
    result_extension: Extension | None = None
    result_dtype: DType | None = None
    result_compress: bool = True
    window_center: FiniteFloat = 0.0
    window_width: float = Field(0.0, ge=0, allow_inf_nan=False)
    separate_objects: bool = False

    @field_validator("result_extension", "result_dtype", "slice", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("window_center", "window_width", mode="before")
    @classmethod
    def _empty_is_zero(cls, value: Any) -> Any:
        return 0 if value == "" else value  # OHIF's field after the user has cleared it

    @field_validator("roi")
    @classmethod
    def _check_roi(cls, value: list[float]) -> list[float]:
        if len(value) not in (0, CORNER_VALUES, AXIS_VALUES):
            raise ValueError("send 4 values (i0, j0, i1, j1) or 6 (i0, i1, j0, j1, k0, k1)")
        return value

    @property
    def window(self) -> tuple[float, float] | None:
        """(low, high) of the volume's values, None where the request leaves it open."""
        if not self.window_width:
            return None
        half = self.window_width / 2
        return self.window_center - half, self.window_center + half

    @property
    def region(self) -> "Region | None":
        """The region of interest."""
        match self.roi:
            case [i0, j0, i1, j1]:
                return Region.of((i0, i1), (j0, j1), None)
            case [i0, i1, j0, j1, k0, k1]:
                return Region.of((i0, i1), (j0, j1), (k0, k1))
        return None


@dataclass(frozen=True)
class Region:
    """`Region` is a box of voxels. box: i0, j0, i1, j1. slices: first and last one; None for a box on one slice."""

    box: tuple[float, float, float, float]
    slices: tuple[int, int] | None

    @classmethod
    def of(cls, i: tuple[float, float], j: tuple[float, float], k: tuple[float, float] | None) -> "Region":
        """Return the region between these values, in whatever order a client names its ends: 3D Slicer's are those of
        a patient's axes."""
        (i0, i1), (j0, j1) = sorted(i), sorted(j)
        slices = None if k is None else (round(min(k)), round(max(k)))
        return cls((i0, j0, i1, j1), slices)

    def is_on(self, k: int) -> bool:
        """Whether a part of the region is on slice k."""
        return self.slices is None or self.slices[0] <= k <= self.slices[1]

    @property
    def middle(self) -> int | None:
        """The slice in the middle."""
        return None if self.slices is None else sum(self.slices) // 2


def cut_region(params: InferIn, size: tuple[int, int, int]) -> InferIn:
    """Return the request with its region cut to the volume: users draw regions that are larger.

    size: columns, rows, slices. Raises BadInput where nothing of the region is in the volume.
    """
    region = params.region
    if region is None:
        return params
    columns, rows, slices = size
    i0, j0, i1, j1 = region.box
    box = max(i0, 0.0), max(j0, 0.0), min(i1, float(columns)), min(j1, float(rows))
    first, last = region.slices or (0, 0)
    first, last = max(first, 0), min(last, slices - 1)
    if not (box[0] < box[2] and box[1] < box[3] and first <= last):
        raise BadInput(
            "The region is empty, or outside of the volume.",
            field="params.roi",
            remedy=f"The volume has {columns} x {rows} x {slices} voxels (i, j, k).",
        )
    roi = list(box) if region.slices is None else [box[0], box[2], box[1], box[3], first, last]
    return params.model_copy(update={"roi": roi})


async def read_params(text: str) -> InferIn:
    """Read the field `params`. Raises TooLarge, BadInput, RequestValidationError."""
    data = text.encode()
    if len(data) <= MAX_EVENT_LOOP_JSON_BYTES:
        return parse_body(data, InferIn, MAX_VALUES)
    return await asyncio.to_thread(parse_body, data, InferIn, MAX_VALUES)


def choose_slice(params: InferIn, slices: int) -> int:
    """Return the slice that a request on one slice means: it says so, or its last point does, or its region.

    3D Slicer names a slice in millimetres where there is a region and no point: with a region, a slice without any
    prompt is not meant.

    slices: of the volume. Raises BadInput.
    """
    chosen = params.slice if params.slice is not None and params.slice >= 0 else None
    if chosen is not None and params.region is not None and not has_prompt(params, chosen):
        chosen = None
    if chosen is None:
        points = [*params.background, *params.foreground]
        chosen = next((round(point[2]) for point in reversed(points) if len(point) > MIN_COORDINATES), None)
    if chosen is None and params.region is not None:
        chosen = params.region.middle
    if chosen is None and slices == 1:
        chosen = 0
    if chosen is None:
        raise BadInput(
            "No slice is named.", field="params.slice", remedy="Send it, or points with three coordinates."
        )
    check_slice(chosen, slices)
    return chosen


def has_prompt(params: InferIn, k: int) -> bool:
    """Return whether a point or the region is on a slice."""
    region = params.region
    return bool(
        points_on(params.foreground, k)
        or points_on(params.background, k)
        or (region is not None and region.is_on(k))
    )


def check_slice(k: int, slices: int) -> None:
    """Raises BadInput."""
    if not 0 <= k < slices:
        raise BadInput(
            f"There is no slice {k} in a volume of {slices}.",
            field="params",
            remedy=f"Send one from 0 to {slices - 1}.",
        )


def prompt_on_slice(params: InferIn, k: int) -> Json:
    """Return the JSON of the prompt on one slice. Points with three coordinates count on their own slice only.

    Raises BadInput where there is no prompt.
    """
    foreground, background = points_on(params.foreground, k), points_on(params.background, k)
    prompt: Json = {
        "points": [*foreground, *background],
        "labels": [1] * len(foreground) + [0] * len(background),
    }
    region = params.region
    if region is not None and region.is_on(k):
        prompt["box"] = region.box
    if not prompt["points"] and "box" not in prompt:
        raise BadInput(
            f"There is no point and no region on slice {k}.",
            field="params",
            remedy="Send points in foreground, or roi.",
        )
    return prompt


def points_on(points: list[list[float]], k: int) -> list[list[float]]:
    """Return the points of a slice as (i, j)."""
    return [point[:2] for point in points if len(point) == MIN_COORDINATES or round(point[2]) == k]


def prompts_in_volume(params: InferIn, slices: int) -> list[Json]:
    """Return the JSON of the prompts on all slices that have some. A region is a box on its middle slice, where no
    point is in it, else on the slices of the points.

    slices: of the volume. Raises BadInput.
    """
    points = [*params.foreground, *params.background]
    if any(len(point) == MIN_COORDINATES for point in points):
        points = [[*point[:2], choose_slice(params, slices)] for point in points]
        count = len(params.foreground)
        params = params.model_copy(update={"foreground": points[:count], "background": points[count:]})
    wanted = {round(point[2]) for point in points}
    region = params.region
    if region is not None and not any(map(region.is_on, wanted)):
        wanted.add(choose_slice(params, slices) if region.middle is None else region.middle)
    if not wanted:
        raise BadInput(
            "There is no point and no region.", field="params", remedy="Send points in foreground, or roi."
        )
    for k in wanted:
        check_slice(k, slices)
    return [{"frame": k, **prompt_on_slice(params, k)} for k in sorted(wanted)]
