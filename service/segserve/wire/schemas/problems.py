"""The JSON of every refusal: a problem document."""

from pydantic import BaseModel, Field


class FaultOut(BaseModel):
    """One of several faults of a request."""

    field: str = Field(description="path of the field at fault, such as prompts.0.box")
    message: str = Field(description="what is wrong with it")


class ProblemOut(BaseModel):
    """Why a request was refused: a problem document (RFC 9457)."""

    type: str = Field(description="stable name of the problem: urn:segserve:problem: and its code")
    title: str = Field(description="the code in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong, for people")
    field: str | None = Field(None, description="path of the field at fault, if one is")
    remedy: str | None = Field(None, description="what to do about it")
    errors: list[FaultOut] | None = Field(None, description="the fields at fault, if there are several")
