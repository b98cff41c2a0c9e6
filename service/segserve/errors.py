"""Every error a caller can meet, as one tree. Nothing here knows HTTP, gRPC or a framework.

    SegserveError
    ├── BadInput                what was sent cannot be used
    │   ├── TooLarge            it is over a limit
    │   ├── FetchFailed         what its URL names cannot be had
    │   ├── UnsupportedFormat   it is not in a form that is read here
    │   ├── WrongModel          the model cannot do what is asked of it
    │   └── NoAutomaticDecoder  the model cannot do it by this method
    ├── NotFound                image, model, mask_id or job is unknown
    ├── NotAllowed            the setting that would allow it is off
    ├── TooSlow                 the client keeps us waiting
    ├── Unavailable             it would work later: cache, jobs or encoder away, too busy, or disk full
    └── BrokenModel             a bundle's files are not what its manifest says

A request goes wire -> segment/encode -> models/store. Whatever is raised below arrives at `wire.http.problems`,
which turns the tree into RFC 9457 problem documents; an error outside the tree is logged with its
traceback and the caller sees only "internal error".
"""

from typing import ClassVar


class SegserveError(Exception):
    """Base of the tree.

    `code` is stable and part of the API. `message` says what is wrong, `remedy` what to do about it,
    `field` which part of the input is meant, as a dotted path (``prompts.0.points``).
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class BadInput(SegserveError):
    code = "bad_input"


class TooLarge(BadInput):
    code = "too_large"


class TooManyTiles(TooLarge):
    """For one request; a job has the time."""


class UnsupportedFormat(BadInput):
    code = "unsupported_format"


class FetchFailed(BadInput):
    code = "fetch_failed"


class WrongModel(BadInput):
    """asked, answers: what models of the kind that is needed answer, and what this one does."""

    code = "wrong_model"

    def __init__(self, name: str, asked: str, answers: str) -> None:
        super().__init__(
            f"Model {name!r} answers {answers}, not {asked}.",
            remedy="GET /v1/models lists the models with their kinds.",
            field="model",
        )


class NoAutomaticDecoder(BadInput):
    code = "no_automatic_decoder"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Model {name!r} has no decoder for automatic instance segmentation (ais).",
            remedy="Take method 'amg', or a model whose 'automatic' in GET /v1/models names 'ais'.",
            field="model",
        )


class NotFound(SegserveError):
    code = "not_found"


class ImageNotFound(NotFound):
    code = "image_not_found"

    def __init__(self, image_id: str) -> None:
        super().__init__(
            f"There is no image {image_id!r}.",
            remedy="Upload it with POST /v1/images and use the image_id of the answer.",
            field="image_id",
        )


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"There is no model {name!r}.",
            remedy=f"Known models: {', '.join(known) or 'none'}. "
            "Add one with 'segserve models pull' or 'segserve models import'.",
            field="model",
        )


class FileNotFound(NotFound):
    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__(
            f"There is no file {file_id!r}.",
            remedy="Upload it with POST /v1/files and use the file_id of the answer.",
            field="file_id",
        )


class JobNotFound(NotFound):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {job_id!r}; it may have expired.",
            remedy="Use the job_id that POST /v1/jobs answered.",
            field="job_id",
        )


class MaskNotFound(NotFound):
    code = "mask_not_found"

    def __init__(self, mask_id: str, field: str = "mask_id") -> None:
        super().__init__(
            f"There is no mask {mask_id!r} for this image and model; it may have expired.",
            remedy="Send the mask itself as 'mask', or its logits as 'logits'.",
            field=field,
        )


class NotAllowed(SegserveError):
    code = "not_allowed"


class TooSlow(SegserveError):
    code = "too_slow"


class Unavailable(SegserveError):
    """`retry_after_s`: when it is worth asking again."""

    code = "unavailable"

    def __init__(self, message: str, *, remedy: str = "Try again.", retry_after_s: int = 2) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class CacheUnavailable(Unavailable):
    code = "cache_unavailable"

    def __init__(self) -> None:
        super().__init__("The embedding cache cannot be reached.", remedy="Try again in a moment.")


class JobsUnavailable(Unavailable):
    code = "jobs_unavailable"

    def __init__(self) -> None:
        super().__init__("The jobs' Redis cannot be reached.", remedy="Try again in a moment.")


class Busy(Unavailable):
    """A queue is full: refused at once rather than answered too late."""

    code = "too_busy"


class OutOfMemory(Unavailable):
    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__(
            "The device has no memory left for this model.",
            remedy="Try again later, or ask the operator for a larger device or a smaller model.",
            retry_after_s=10,
        )


class StorageFull(Unavailable):
    code = "storage_full"

    def __init__(self) -> None:
        super().__init__(
            "There is no room left to store it.",
            remedy="Delete what is not needed, or ask the operator for more room; then send it again.",
            retry_after_s=60,
        )


class EncodeTimeout(Unavailable):
    code = "encode_timeout"


class BrokenModel(SegserveError):
    code = "broken_model"


class MissingDependency(SegserveError):
    """An optional package is needed: the message names the extra that brings it."""

    code = "missing_dependency"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}.", remedy=f"Install it with: pip install 'segserve[{extra}]'"
        )
