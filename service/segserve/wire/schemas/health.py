"""The JSON of /readyz and /version."""

from typing import Literal

from pydantic import BaseModel, Field


class LiveOut(BaseModel):
    """That the process runs."""

    status: Literal["alive"] = Field(description="always alive: a process that is not does not answer")


class ReadyOut(BaseModel):
    """Whether the service can answer clicks, and what each part of it says."""

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="degraded: clicks are answered only on images whose embeddings this process holds, or only on"
        " images that were encoded before, or there are no jobs"
    )
    checks: dict[str, str] = Field(description="what each part of the service says: ok, or what is wrong")


class VersionOut(BaseModel):
    """The version of this service."""

    version: str = Field(description="as segserve --version says it")
