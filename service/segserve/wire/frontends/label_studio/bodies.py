"""The requests of Label Studio."""

from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field, FiniteFloat

from segserve.errors import BadInput
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.frontends.label_studio.label_config import MAX_CHARACTERS, Shape
from segserve.wire.schemas.prompts import MAX_POINTS

Json = dict[str, Any]

# Values of a body: tasks come with all their regions, whose run lengths are a value for each byte.
MAX_VALUES = 1 << 21
MAX_TASKS = 1000
MAX_OPTIONS_CHARACTERS = 1 << 16

ProjectId = Annotated[str, Field(max_length=64)]
Config = Annotated[str, Field(max_length=MAX_CHARACTERS)]


def read_options(value: Any) -> Any:
    """Return what a project's extra params say: Label Studio's form sends them as text.

    They are kept as long as the project is, so they are bounded.
    """
    if len(value if isinstance(value, str) else orjson.dumps(value)) > MAX_OPTIONS_CHARACTERS:
        raise ValueError(f"they have over {MAX_OPTIONS_CHARACTERS} characters")
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError('they are not JSON; write such as {"method": "amg"}') from None
    return {} if value is None else value


class OptionsIn(ClientBody):
    """The options of a project: the extra params of its connection.

    method, params: of POST /v1/automatic. score_threshold: of POST /v1/instances. output: what masks become, by the
    tag's name without Labels. tolerance: of polygons, in pixels. label: of objects without a class.
    """

    model: str | None = Field(None, max_length=64)
    method: str | None = Field(None, max_length=16)
    params: Json = Field(default_factory=dict, max_length=64)
    score_threshold: float | None = Field(None, ge=0, le=1)
    output: Shape | None = None
    tolerance: float = Field(1.0, ge=0, le=100)
    label: str | None = Field(None, max_length=256)


Options = Annotated[OptionsIn, BeforeValidator(read_options)]


class SetupIn(ClientBody):
    """A project connects. Label Studio sends this whenever somebody looks at the connection."""

    project: ProjectId
    label_config: Config = Field("", alias="schema")
    hostname: str | None = Field(None, max_length=2048)
    access_token: str | None = Field(None, max_length=4096)
    extra_params: Options = Field(default_factory=OptionsIn)


class RegionIn(ClientBody):
    """Something that an annotator has drawn. value: by the type, in percent of the image."""

    type: str = Field(max_length=64)
    value: Json
    id: str | None = Field(None, max_length=256)
    from_name: str | None = Field(None, max_length=256)
    to_name: str | None = Field(None, max_length=256)
    is_positive: bool | None = None
    image_rotation: float = 0
    item_index: int | None = Field(None, ge=0)

    @property
    def label(self) -> str | None:
        """Return the label that it was drawn with."""
        for key in (self.type, "labels"):
            labels = self.value.get(key)
            if isinstance(labels, list) and labels and isinstance(labels[0], str):
                return labels[0]
        return None

    def number(self, name: str) -> float:
        """Return a number of the value. Raises BadInput."""
        value = self.value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(
                f"The {self.type} has no {name}.",
                field=f"params.context.result.value.{name}",
                remedy="Draw it again.",
            )
        return float(value)


class ContextIn(ClientBody):
    """The act of an annotator. event: of interactive video; a prediction where it is left out.

    frame: from 1. time_ms: of the frame, which counts more than its number.
    """

    result: list[RegionIn] = Field([], max_length=MAX_POINTS)
    event: str = Field("", max_length=32)
    frame: int | None = Field(None, ge=0)
    time_ms: FiniteFloat | None = Field(None, ge=0)
    window: int = Field(0, ge=0)
    direction: str = Field("forward", max_length=16)
    max_frames: int | None = Field(None, ge=0)
    max_duration_ms: FiniteFloat | None = Field(None, ge=0)
    session_id: str = Field("", max_length=128)


class TaskIn(ClientBody):
    id: int | None = None
    data: Json = Field(default_factory=dict)


class ParamsIn(ClientBody):
    context: ContextIn | None = None


class PredictIn(ClientBody):
    tasks: list[TaskIn] = Field(min_length=1, max_length=MAX_TASKS)
    project: ProjectId | None = None
    label_config: Config = ""
    params: ParamsIn = Field(default_factory=ParamsIn)


class WebhookProjectIn(ClientBody):
    id: int | None = None


class WebhookIn(ClientBody):
    action: str = Field("", max_length=64)
    project: WebhookProjectIn | None = None


class ProjectIn(ClientBody):
    project: ProjectId
