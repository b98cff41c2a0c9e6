"""The JSON of every refusal: a problem document."""

from pydantic import BaseModel


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    remedy: str | None = None
    errors: list[dict[str, str]] | None = None
