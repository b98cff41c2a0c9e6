"""The JSON of /readyz."""

from typing import Literal

from pydantic import BaseModel


class ReadyOut(BaseModel):
    """Whether the service can answer clicks, and what each part of it says."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]
