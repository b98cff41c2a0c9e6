"""The JSON of /readyz."""

from typing import Literal

from pydantic import BaseModel


class ReadyOut(BaseModel):
    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]
