"""The bodies that CVAT sends to functions. Coordinates are pixels of the image that comes with them."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from segserve.types import Size
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.schemas.prompts import MAX_POINTS, MAX_PROMPTS, Edge

MAX_POLYGON_VALUES = 8192
MIN_POLYGON_VALUES = 6
BOX_VALUES = 4
MAX_COUNTS = 4_000_000  # characters

Point = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


BareRectangle = Annotated[list[FiniteFloat], Field(min_length=BOX_VALUES, max_length=BOX_VALUES)]


class ImageBody(ClientBody):
    """image: base64 of an image file."""

    image: str


class ClickIn(ImageBody):
    """obj_bbox: two corners, as points or as one list; empty where there is no box."""

    pos_points: list[Point] = Field([], max_length=MAX_POINTS)
    neg_points: list[Point] = Field([], max_length=MAX_POINTS)
    obj_bbox: list[Point] | list[FiniteFloat] | None = None

    @model_validator(mode="after")
    def check_box(self) -> Self:
        if len(self.list_corners()) not in (0, BOX_VALUES):
            raise ValueError("obj_bbox is no box: send two corners, [[x, y], [x, y]]")
        return self

    def list_corners(self) -> list[float]:
        """Return the box as x, y, x, y; empty where there is none."""
        return [
            value for item in self.obj_bbox or [] for value in (item if isinstance(item, list) else [item])
        ]

    def to_prompt(self, size: Size) -> dict[str, object]:
        """Return the JSON of `PromptIn`. A box may be drawn from any corner, and beyond the image.

        size: of the image.
        """
        prompt: dict[str, object] = {
            "points": [*self.pos_points, *self.neg_points],
            "labels": [1] * len(self.pos_points) + [0] * len(self.neg_points),
        }
        corners = self.list_corners()
        return {**prompt, "box": clip_box(corners, size)} if corners else prompt


class DetectIn(ImageBody):
    """threshold: of the scores, where the model gives some."""

    threshold: float | None = Field(None, ge=0, le=1)


class ShapeIn(ClientBody):
    """A shape to follow. points: x0, y0, x1, y1 of a rectangle, or x, y of each vertex of a polygon."""

    type: Literal["rectangle", "polygon"] = "rectangle"
    points: list[FiniteFloat] = Field(min_length=BOX_VALUES, max_length=MAX_POLYGON_VALUES)

    @model_validator(mode="after")
    def check_values(self) -> Self:
        count = len(self.points)
        is_polygon = count >= MIN_POLYGON_VALUES and count % 2 == 0
        if not (count == BOX_VALUES if self.type == "rectangle" else is_polygon):
            raise ValueError(f"{count} values are no {self.type}")
        return self


class MaskIn(ClientBody):
    """COCO's run lengths of a mask. size: height, width."""

    size: list[Edge] = Field(min_length=2, max_length=2)
    counts: str = Field(max_length=MAX_COUNTS)


class StateIn(ClientBody):
    """A followed shape, as it was answered before. It comes from outside: nothing of it is trusted.

    mask: of the object on the frame where it was seen last. bare: the shape came as points alone, and is answered so.
    """

    type: Literal["rectangle", "polygon"]
    mask: MaskIn
    bare: bool = False


class TrackIn(ImageBody):
    """shapes: where there are no states: to begin with. states: of shapes that are followed already.

    Older versions of CVAT send rectangles as points alone.
    """

    shapes: list[ShapeIn | BareRectangle | None] = Field([], max_length=MAX_PROMPTS)
    states: list[StateIn | None] = Field([], max_length=MAX_PROMPTS)


def clip_box(corners: list[float], size: Size) -> list[float]:
    """Return x0, y0, x1, y1 of the box between two corners, as far as it is on the image."""
    (x0, x1), (y0, y1) = sorted(corners[0::2]), sorted(corners[1::2])
    return [
        max(0.0, min(x0, size.width)),
        max(0.0, min(y0, size.height)),
        max(0.0, min(x1, size.width)),
        max(0.0, min(y1, size.height)),
    ]
