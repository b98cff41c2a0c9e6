"""The base class and the types that all request bodies share."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(max_length=128)]
# Of examples/nuclei.png: examples of the reference work as they are once that picture is uploaded.
EXAMPLE_IMAGE_ID = "6122ddd62f3e8a1b582ac1ac8c70b8a3f49e9c20bf9dc1c558f5736631f252b2"
ImageId = Annotated[Id, Field(description="as POST /v1/images answered it", examples=[EXAMPLE_IMAGE_ID])]


MAX_TOLERANCE_PX = 100.0

Tolerance = Annotated[
    float | None,
    Field(
        ge=0,
        le=MAX_TOLERANCE_PX,
        description="of format polygon, in pixels: vertices are left out as long as no line moves further; null: none"
        " are",
    ),
]


def check_tolerance(tolerance: float | None, answer_format: str) -> None:
    """Raise ValueError for the tolerance of a format that has no outlines."""
    if tolerance is not None and answer_format != "polygon":
        raise ValueError('tolerance: only with "format": "polygon"; leave it out')


Hints = Annotated[
    list[str],
    Field(
        description="what may be wrong with the answer, and what to do about it; left out where nothing is"
    ),
]


# Values of a JSON body, containers included. Each takes some hundred bytes while it is checked.
MAX_BODY_VALUES = 4096
# Of a job: 100,000 images with their names, each with a prompt of up to five points.
MAX_JOB_VALUES = 1 << 21


# Containers of a body that are checked piece by piece where they are large: by their path, the most values in each.
PieceLimits = Mapping[tuple[str, ...], int]
# Of the objects of a job: 32,000 prompts with a box, or 80,000 points.
MAX_OBJECTS_VALUES = 1 << 18


class StrictBody(BaseModel):
    """A request body that accepts only the fields and types of its schema: "10" is no number.

    max_values: more values are refused before anything is built of them.
    pieces: see PieceLimits.
    """

    max_values: ClassVar[int] = MAX_BODY_VALUES
    pieces: ClassVar[PieceLimits] = {}

    model_config = ConfigDict(extra="forbid", strict=True)
