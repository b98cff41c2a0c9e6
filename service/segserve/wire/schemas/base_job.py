"""The base classes of the bodies of all kinds of jobs."""

from typing import Literal

from pydantic import Field

from segserve.wire.schemas.common import Id, StrictBody


class BaseJobIn(StrictBody):
    """The fields that all kinds of jobs share."""

    model: str | None = Field(None, max_length=64, description="the operation's default model if left out")
    priority: Literal["interactive", "batch"] = Field(
        "batch",
        description="interactive: somebody waits for the job; it does not wait behind batch jobs",
    )
    webhook: str | None = Field(
        None, max_length=2048, description="URL that is sent the job as JSON, signed, when it has ended"
    )


class FileIn(StrictBody):
    """The file that a job works on."""

    file_id: Id = Field(description="as POST /v1/files answered it")
