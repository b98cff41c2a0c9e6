"""Every error that a caller can meet, as one tree. Nothing here knows HTTP, gRPC or a framework.

    SegserveError               base: code, message, remedy, field
    ├── BadInput                the request cannot be used
    │   ├── TooLarge            it is over a limit
    │   │   └── TooManyTiles    the image has too many tiles for one request; a job can do it
    │   ├── FetchFailed         the image behind its URL cannot be fetched
    │   ├── UnsupportedFormat   the content type or file format cannot be read
    │   ├── WrongModel          the model is of another kind than the operation needs
    │   └── NoAutomaticDecoder  the model has no decoder for automatic segmentation by `ais`
    ├── NotFound                the request names something that does not exist
    │   ├── ImageNotFound
    │   ├── TileNotFound        an image has no such tile
    │   ├── ModelNotFound
    │   ├── FileNotFound
    │   ├── DeletedInput        the file that a job worked on was deleted
    │   ├── JobNotFound
    │   ├── UploadNotFound      no upload straight to the bucket has this id
    │   └── MaskNotFound        a mask_id that has expired, or is of another image or model
    ├── Unauthenticated         nobody knows who sends the request
    ├── NotAllowed              the operator has not allowed it
    │   ├── TenantDeleted       the tenant is being deleted
    │   └── MissingRight        the key or token that comes with the request may not do this
    ├── TooSlow                 the client sends its request too slowly
    ├── Unavailable             the same request may succeed later: has retry_after_s
    │   ├── CacheUnavailable    the Redis of the embedding cache cannot be reached
    │   ├── JobsUnavailable     the Redis of the jobs cannot be reached
    │   ├── Busy                a queue or a concurrency limit is full
    │   ├── RateLimited         the client sends more requests than it may
    │   ├── OutOfMemory         the GPU has no memory left
    │   ├── StorageFull         the disk is full
    │   └── EncodeTimeout       the image was not encoded in time
    ├── BrokenModel             a bundle's files differ from its manifest, or cannot be run
    └── MissingDependency       an optional package is not installed

How an error reaches the client: a function below `wire` raises it. `wire.http.problems` turns it into a problem
document (RFC 9457), with a status by its class; `wire.grpc.errors` turns it into a gRPC status. Every direct child of
SegserveError has a row in both tables. Any other exception is logged with its traceback, and the client sees
"internal error" only.

`wire.http.problems.InvalidRequest` is a BadInput that lists every field at fault. `store.private_redis` has an error
of its own, which stops the process at its start and reaches no client.
"""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from typing import ClassVar

# Messages show what the client sent, which may be megabytes, and go into the log too.
MAX_MESSAGE_CHARACTERS = 1000
MAX_FIELD_CHARACTERS = 200
MAX_QUOTED_CHARACTERS = 100


def shorten(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[:max_characters]}..."


def quote(name: str) -> str:
    """Return a name that came from outside between quotes. A long one is cut, and odd characters are escaped."""
    return repr(shorten(name, MAX_QUOTED_CHARACTERS))


class SegserveError(Exception):
    """Base of the tree.

    code: stable name of the error, part of the API.
    message: what is wrong, one sentence.
    remedy: what the caller can do about it, one sentence; empty if there is nothing to do.
    field: the part of the request at fault, as a dotted path (``prompts.0.points``); None if there is none.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "", field: str | None = None) -> None:
        self.message = shorten(message, MAX_MESSAGE_CHARACTERS)
        self.remedy = remedy
        self.field = None if field is None else shorten(field, MAX_FIELD_CHARACTERS)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class BadInput(SegserveError):
    """The request cannot be used as it is. The caller must change it."""

    code = "bad_input"


class TooLarge(BadInput):
    """The request, or what it asks for, is over a limit."""

    code = "too_large"


class TooManyTiles(TooLarge):
    """The image has too many tiles for one request. A job has the time; REST submits one in this case."""


class UnsupportedFormat(BadInput):
    """The content type or file format cannot be read."""

    code = "unsupported_format"


class FetchFailed(BadInput):
    """The image behind the URL of the request cannot be fetched."""

    code = "fetch_failed"


class WrongModel(BadInput):
    """The model is of another kind than the operation needs.

    needed: what a model must answer for this operation ("classes of pixels").
    answers: what this model answers ("prompts").
    """

    code = "wrong_model"

    def __init__(self, name: str, needed: str, answers: str) -> None:
        super().__init__(
            f"Model {name!r} answers {answers}, not {needed}.",
            remedy="GET /v1/models lists the models with their kinds.",
            field="model",
        )


class NoAutomaticDecoder(BadInput):
    """The model has no decoder for automatic segmentation by `ais`."""

    code = "no_automatic_decoder"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Model {name!r} has no decoder for automatic instance segmentation (ais).",
            remedy="Take method 'amg', or a model whose 'automatic' in GET /v1/models names 'ais'.",
            field="model",
        )


class NotFound(SegserveError):
    """The request names something that does not exist."""

    code = "not_found"


class ImageNotFound(NotFound):
    """No image has this id. field: that names it in the request."""

    code = "image_not_found"

    def __init__(self, image_id: str, field: str = "image_id") -> None:
        super().__init__(
            f"There is no image {quote(image_id)}.",
            remedy="Upload it with POST /v1/images and use the image_id of the answer.",
            field=field,
        )


class TileNotFound(NotFound):
    """The image has no such level, or the level no such tile."""

    code = "tile_not_found"


class ModelNotFound(NotFound):
    """No model has this name. available: the names of the models that exist."""

    code = "model_not_found"

    def __init__(self, name: str, available: list[str]) -> None:
        super().__init__(
            f"There is no model {quote(name)}.",
            remedy=f"Known models: {', '.join(available) or 'none'}. "
            "Add one with 'segserve models pull' or 'segserve models import'.",
            field="model",
        )


class FileNotFound(NotFound):
    """No video, stack, volume or zip has this id."""

    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__(
            f"There is no file {quote(file_id)}.",
            remedy="Upload it with POST /v1/files and use the file_id of the answer.",
            field="file_id",
        )


class UploadNotFound(NotFound):
    """There is no such upload, or it has expired."""

    code = "upload_not_found"

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            f"There is no upload {quote(upload_id)}.",
            field="upload_id",
            remedy="Begin another with POST /v1/uploads; each of them expires after some hours.",
        )


class DeletedInput(NotFound):
    """The file that a job worked on was deleted, and a format of its results needs it."""

    code = "deleted_input"

    def __init__(self, job_format: str) -> None:
        super().__init__(
            f"The format {quote(job_format)} needs the file that the job worked on, and it was deleted.",
            remedy="Ask for 'ndjson', 'coco', 'png' or 'tiff', which are made of the results alone.",
            field="format",
        )


class JobNotFound(NotFound):
    """No job has this id, or it has expired."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {quote(job_id)}; it may have expired.",
            remedy="Use the job_id that POST /v1/jobs answered.",
            field="job_id",
        )


class MaskNotFound(NotFound):
    """The mask_id of a prompt has expired, or is of another image or model."""

    code = "mask_not_found"

    def __init__(self, mask_id: str, field: str = "mask_id") -> None:
        super().__init__(
            f"There is no mask {quote(mask_id)} for this image and model; it may have expired.",
            remedy="Send the mask itself as 'mask', or its logits as 'logits'.",
            field=field,
        )


class NotAllowed(SegserveError):
    """The operator has not allowed what the request needs: jobs, webhooks, server folders, or fetching from a host."""

    code = "not_allowed"


class MissingRight(NotAllowed):
    """The key or token of the request may not do this, by its role or its scopes."""

    code = "missing_right"


class TenantDeleted(NotAllowed):
    """The tenant is being deleted: nothing more of it is stored."""

    code = "tenant_deleted"

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"The tenant {quote(tenant)} is being deleted.",
            remedy="Ask the operator. Its name can be used again when all of it is gone.",
        )


class Unauthenticated(SegserveError):
    """The request has no key, or one that is not known, has expired or was revoked."""

    code = "unauthenticated"


class TooSlow(SegserveError):
    """The client sends its request too slowly."""

    code = "too_slow"


class Unavailable(SegserveError):
    """The request is right, but cannot be answered now. The same request may succeed later.

    retry_after_s: seconds that the client should wait before it sends the request again. REST sends them as the header
    Retry-After, gRPC as google.rpc.RetryInfo.
    """

    code = "unavailable"

    def __init__(self, message: str, remedy: str = "Try again.", *, retry_after_s: int = 2) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


def describe_redis(name: str, setting: str, *, is_refused: bool) -> tuple[str, str]:
    """Return what is wrong with a Redis that gives no answers, and what to do. setting: its address."""
    if not is_refused:
        return f"{name} cannot be reached.", "Try again in a moment."
    return f"{name} refuses the password.", f"Ask the operator to mend the user or password in {setting}."


class CacheUnavailable(Unavailable):
    """The Redis of the embedding cache cannot be reached. is_refused: it answers, and refuses the password."""

    code = "cache_unavailable"

    def __init__(self, *, is_refused: bool = False) -> None:
        super().__init__(*describe_redis("The embedding cache", "SEGSERVE_REDIS_URL", is_refused=is_refused))


class JobsUnavailable(Unavailable):
    """The Redis of the jobs cannot be reached. is_refused: it answers, and refuses the password."""

    code = "jobs_unavailable"

    def __init__(self, *, is_refused: bool = False) -> None:
        super().__init__(*describe_redis("The jobs' Redis", "SEGSERVE_JOBS_REDIS_URL", is_refused=is_refused))


class Busy(Unavailable):
    """A queue or a concurrency limit is full. The request is refused at once instead of answered too late."""

    code = "too_busy"


class RateLimited(Unavailable):
    """The key or the address sends more requests than the operator allows."""

    code = "rate_limited"


class OutOfMemory(Unavailable):
    """The GPU has no memory left for the model."""

    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__(
            "The device has no memory left for this model.",
            remedy="Try again later, or ask the operator for a larger device or a smaller model.",
            retry_after_s=10,
        )


class StorageFull(Unavailable):
    """The disk or bucket has no room left for an upload."""

    code = "storage_full"

    def __init__(self) -> None:
        super().__init__(
            "There is no room left to store it.",
            remedy="Delete what is not needed, or ask the operator for more room; then send it again.",
            retry_after_s=60,
        )


class EncodeTimeout(Unavailable):
    """The image was not encoded within the time that a request waits for it."""

    code = "encode_timeout"


class BrokenModel(SegserveError):
    """The files of a model bundle differ from its manifest, or cannot be run."""

    code = "broken_model"


class MissingDependency(SegserveError):
    """An optional package is not installed.

    package: its name. extra: the extra of segserve that brings it. purpose: what needs it, begins the message.

    alternative: what to ask a service for in its place, as a sentence; empty where there is nothing.

    The message is for whoever runs segserve. Those who call its service read `for_clients`.
    """

    code = "missing_dependency"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}.", remedy=f"Install the extra {extra}: {describe_install(extra)}"
        )
        self.package, self.extra, self.purpose = package, extra, purpose
        self.alternative = ""

    def for_clients(self) -> SegserveError:
        """Return the error for a client of the service, who can install nothing there, with `alternative`."""
        return SegserveError(
            f"{self.purpose} needs {self.package}, which the service lacks.",
            remedy=f"Its operator installs the extra {self.extra}. {self.alternative}".strip(),
        )


def describe_install(extra: str) -> str:
    """Return the command that installs what an extra brings, by its packages: segserve itself is on no registry."""
    try:
        requirements = requires("segserve") or []
    except PackageNotFoundError:  # run from its sources, not installed
        requirements = []
    matches = (re.fullmatch(rf"([^;]+);.*\bextra == '{extra}'", requirement) for requirement in requirements)
    packages = [f"'{match[1]}'" for match in matches if match]
    return " ".join(["pip install", *packages]) if packages else "docs/install.md says how"


def describe_invalid(error: Mapping[str, object]) -> str:
    """Return the message of one of pydantic's errors, without the words that it puts before ours."""
    return str(error["msg"]).removeprefix("Value error, ")
