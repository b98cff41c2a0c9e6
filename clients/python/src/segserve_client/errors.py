"""Every error of this client, as one tree.

ClientError                 base
├── Unreachable             nothing answers at the address, or what answers is no segserve
├── Problem                 the service refused the request: status, type, detail, field, remedy
│   ├── BadRequest          the request cannot be used as it is (400, 409, 413, 415, 422, 501)
│   ├── Unauthenticated     the service asks for a key, or does not know this one (401)
│   ├── NotAllowed          the operator has not allowed it, or the key may not do it (403)
│   ├── NotFound            (404)
│   │   ├── ImageNotFound
│   │   ├── FileNotFound
│   │   ├── JobNotFound
│   │   ├── ModelNotFound
│   │   └── MaskNotFound    a mask_id that has expired; `Mask.refine` sends the mask itself then
│   └── Unavailable         not now, and not within the time of the retries (429, 503, 507)
├── JobFailed               a job ended as failed or cancelled: job
└── JobStillRunning         `Job.wait` had a timeout; also a TimeoutError
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE_PREFIX = "urn:segserve:problem:"
# Where a key comes from, and how this client gets it.
KEY_COMMAND = "segserve keys add"
KEY_HELP = (
    f"A key comes from the operator of the service, who makes it by '{KEY_COMMAND}'. Give it as"
    " Client(..., api_key=...) or in the environment variable SEGSERVE_API_KEY."
)


class ClientError(Exception):
    """Base of the tree."""


class Unreachable(ClientError):
    """Nothing answers at the address, or what answers is no segserve."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(f"{address} cannot be reached: {reason}. Is that the address of a running segserve?")


class Problem(ClientError):
    """A refusal of the service: a problem document (RFC 9457).

    status: of HTTP; 0 where it is the error of one item of a job.
    type: stable name, urn:segserve:problem: and its code.
    detail: what is wrong. field: the path of the field at fault, if there is one. remedy: what to do, or empty.
    retry_after_s: after which the service said to come again; 0 if it did not say it.
    """

    def __init__(
        self,
        status: int,
        type: str,
        detail: str,
        field: str | None = None,
        remedy: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        self.status, self.type, self.detail, self.field, self.remedy = status, type, detail, field, remedy
        self.retry_after_s = retry_after_s
        super().__init__(f"{detail} {remedy}".strip())

    @property
    def code(self) -> str:
        """The type without its prefix, such as image_not_found."""
        return self.type.removeprefix(TYPE_PREFIX)

    def to_json(self) -> dict[str, str]:
        """Return the members of a problem document, as result lines have them."""
        members = {"type": self.type, "detail": self.detail, "remedy": self.remedy, "field": self.field}
        return {name: value for name, value in members.items() if value}


class BadRequest(Problem):
    """The request cannot be used as it is."""


class Unauthenticated(Problem):
    """The service asks for a key, or does not know this one."""

    def __str__(self) -> str:
        # The service says where keys come from too, by the header that this client sends.
        said = self.detail if KEY_COMMAND in self.remedy else super().__str__()
        return f"{said} {KEY_HELP}"


class NotAllowed(Problem):
    """The operator has not allowed it, or the key may not do it."""


class NotFound(Problem):
    """The request names something that does not exist."""


class ImageNotFound(NotFound):
    """No image has this id."""


class FileNotFound(NotFound):
    """No video, stack or volume has this id."""


class JobNotFound(NotFound):
    """No job has this id, or it has expired."""


class ModelNotFound(NotFound):
    """No model has this name."""


class MaskNotFound(NotFound):
    """The mask_id has expired, or is of another image or model."""


class Unavailable(Problem):
    """The service could not do it now, and not within the time of the retries."""


_BY_CODE: dict[str, type[Problem]] = {
    "image_not_found": ImageNotFound,
    "file_not_found": FileNotFound,
    "job_not_found": JobNotFound,
    "model_not_found": ModelNotFound,
    "mask_not_found": MaskNotFound,
}
_BY_STATUS: dict[int, type[Problem]] = {
    401: Unauthenticated,
    403: NotAllowed,
    404: NotFound,
    429: Unavailable,
    503: Unavailable,
    507: Unavailable,
}


def parse_problem(document: Any, status: int = 0, retry_after_s: float = 0.0) -> Problem:
    """Return the error of a problem document. Raises ValueError where it is none."""
    if not isinstance(document, Mapping) or not isinstance(document.get("detail"), str):
        raise ValueError("no problem document")
    kind = str(document.get("type", ""))
    error = _BY_CODE.get(kind.removeprefix(TYPE_PREFIX)) or _BY_STATUS.get(
        status, BadRequest if 400 <= status < 500 or status == 501 else Problem
    )
    return error(
        status, kind, document["detail"], document.get("field"), document.get("remedy") or "", retry_after_s
    )
