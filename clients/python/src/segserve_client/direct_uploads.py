"""The requests of large files that go straight to the service's object store, where that is offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segserve_client import answers
from segserve_client.errors import Problem
from segserve_client.requests import Answer, Call, Request
from segserve_client.uploads import Upload

# Smaller files are not worth the two requests more.
MIN_BYTES = 64_000_000
# Refusals by which a service says that it has no signed URLs; older ones do not know the route.
_NOT_OFFERED = (403, 404, 405)


@dataclass(frozen=True)
class UploadPart:
    """`size` bytes of a file from byte `offset` on, and the URL to PUT them to."""

    offset: int
    size: int
    url: str


@dataclass(frozen=True)
class UploadPlan:
    """Addresses of the parts of a file. headers: that each PUT must have."""

    upload_id: str
    parts: tuple[UploadPart, ...]
    headers: Mapping[str, str]


def begin_upload(upload: Upload, series: str | None, time: int | None) -> Call[UploadPlan]:
    fields = {"size": upload.size, "series": series, "time": time}
    body = {name: value for name, value in fields.items() if value is not None}

    def parse(answer: Answer) -> UploadPlan:
        raw = answer.json()
        parts = tuple(UploadPart(part["offset"], part["size"], part["url"]) for part in raw["parts"])
        return UploadPlan(raw["upload_id"], parts, raw["headers"])

    return Call(Request("POST", "/v1/uploads", body=body, is_repeatable=False), parse)


def is_not_offered(problem: Problem) -> bool:
    """Return whether the file is to be sent to the service itself."""
    return problem.status in _NOT_OFFERED


def send_part(plan: UploadPlan, part: UploadPart, upload: Upload) -> Call[None]:
    """The request has the part's own address, and nothing of the service's: no key of the user goes to the store."""
    piece = replace(upload, offset=part.offset, size=part.size, total=upload.size)
    return Call(Request("PUT", part.url, upload=piece, headers=plan.headers), lambda _: None)


def complete_upload(plan: UploadPlan) -> Call[answers.StoredFile]:
    request = Request("POST", f"/v1/uploads/{plan.upload_id}/complete", is_repeatable=False)
    return Call(request, lambda answer: answers.parse_file(answer.json()))
