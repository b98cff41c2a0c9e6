"""The JSON of /readyz and /version."""

from typing import Literal

from pydantic import BaseModel


class ReadyOut(BaseModel):
    """Whether the service can answer clicks, and what each part of it says."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


class VersionOut(BaseModel):
    """The version of this service."""

    version: str
