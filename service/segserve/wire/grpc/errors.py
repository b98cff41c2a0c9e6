"""The error tree as gRPC status codes, and the status of an encoder worker as an error of the tree again."""

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode

from segserve.errors import (
    BadInput,
    BrokenModel,
    Busy,
    ImageNotFound,
    MissingDependency,
    NotAllowed,
    NotFound,
    OutOfMemory,
    RateLimited,
    SegserveError,
    StorageFull,
    TooSlow,
    Unauthenticated,
    Unavailable,
)
from segserve.wire.http.problems import InvalidRequest

DOMAIN = "segserve"
DETAILS_KEY = "grpc-status-details-bin"  # the metadata in which gRPC carries a google.rpc.Status
# The first row whose class fits decides: subclasses stand before their parents.
CODES: list[tuple[type[SegserveError], StatusCode]] = [
    (BadInput, StatusCode.INVALID_ARGUMENT),
    (NotFound, StatusCode.NOT_FOUND),
    (Unauthenticated, StatusCode.UNAUTHENTICATED),
    (NotAllowed, StatusCode.PERMISSION_DENIED),
    (TooSlow, StatusCode.DEADLINE_EXCEEDED),
    (Busy, StatusCode.RESOURCE_EXHAUSTED),
    (RateLimited, StatusCode.RESOURCE_EXHAUSTED),
    (OutOfMemory, StatusCode.RESOURCE_EXHAUSTED),
    (StorageFull, StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, StatusCode.UNAVAILABLE),
    (BrokenModel, StatusCode.FAILED_PRECONDITION),
    (MissingDependency, StatusCode.UNIMPLEMENTED),
]
LAST_RESORT = StatusCode.UNKNOWN


def status_code(error: SegserveError) -> StatusCode:
    """The status code of an error, by its class."""
    return next((code for kind, code in CODES if isinstance(error, kind)), LAST_RESORT)


def error_to_status(error: SegserveError) -> status_pb2.Status:
    """The google.rpc.Status of an error: ErrorInfo with the stable reason and the remedy, BadRequest with the fields at
    fault, RetryInfo with the time to wait."""
    shown = error.for_clients() if isinstance(error, MissingDependency) else error
    status = status_pb2.Status(code=code_pb2.Code.Value(status_code(error).name), message=str(shown))
    info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=DOMAIN)
    if shown.remedy:
        info.metadata["remedy"] = shown.remedy
    status.details.add().Pack(info)
    if error.field is not None:
        single = [{"field": error.field, "message": error.message}]
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=fault["field"], description=fault["message"])
            for fault in (error.faults if isinstance(error, InvalidRequest) else single)
        ]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, Unavailable):
        delay = Duration(seconds=error.retry_after_s)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def worker_error(code: StatusCode, message: str, image_id: str) -> SegserveError:
    """The error for the client of the API, when an encoder worker refuses to encode its image."""
    match code:
        case StatusCode.NOT_FOUND:
            return ImageNotFound(image_id)
        case StatusCode.RESOURCE_EXHAUSTED:
            return Busy("The encoder workers are busy.", remedy="Try again soon.", retry_after_s=2)
        case StatusCode.INVALID_ARGUMENT:
            return BadInput(message, field="image_id")
        case StatusCode.FAILED_PRECONDITION:
            return BrokenModel(message)
        case _:
            return Unavailable("No encoder worker could encode the image.", remedy="Try again soon.")
