"""Limits on the size and the pace of requests and answers. Those that operators may change are in `settings`."""

from collections.abc import Iterable
from dataclasses import dataclass

from segserve.errors import TooLarge
from segserve.settings import Settings
from segserve.types import MB

# Request line and headers together.
MAX_HEADER_BYTES = 32 << 10
# Pace of a request body, and of a client that reads an answer. Slower is stalled or hostile.
MIN_BYTES_PER_S = 8 << 10
# Connections beyond the setting max_connections that are accepted, so that operators still reach /metrics and others
# read a refusal.
SPARE_CONNECTIONS = 32
# Connections to the port of operators, SEGSERVE_OPERATOR_PORT.
OPERATOR_CONNECTIONS = 64
# Requests behind a chunked body that came together with it. They are parsed at once, and take memory while they wait;
# all other pipelined requests are parsed when the answer before theirs is sent. Hardly any client pipelines.
MAX_PIPELINED = 16
# Bytes of pipelined requests that were received and not parsed yet. We read no more of them then, but for what was on
# its way.
MAX_UNPARSED_BYTES = 1 << 20
# A client may begin so many requests at once, as a page with a few connections does.
BURST_REQUESTS = 16
# Beyond the burst a request of one client begins after each such interval. To begin takes about a millisecond, so that
# half of the event loop's time is left: for clicks, and to accept the connections that stand behind those of the burst.
REQUEST_INTERVAL_S = 0.002
# New connections of one client that are read from at once: a page opens six, a pool of a client ten or more.
BURST_CONNECTIONS = 32
# Beyond the burst one new connection of a client is read from after each such interval.
CONNECTION_INTERVAL_S = 0.005
# After so long without a sign of a client TCP closes its connection.
TCP_TIMEOUT_S = 60
# Boundaries and headers around the file in a multipart form.
MULTIPART_OVERHEAD_BYTES = 1 << 20
# Larger JSON and larger messages of gRPC are checked in a thread, so that they do not hold up the event loop.
MAX_EVENT_LOOP_JSON_BYTES = 16 << 10
# Answers with more masks are written in a thread. A click has at most three candidates.
MAX_EVENT_LOOP_MASKS = 3
# Larger uploads go from memory to a temporary file: hundreds may come in at the same time.
SPOOL_BYTES = 1 << 20


@dataclass(frozen=True)
class UploadLimit:
    """Size of an uploaded body. what: it is, for people. field: that the refusal names. setting: of max_mb."""

    what: str
    field: str
    max_mb: int
    setting: str

    @property
    def max_bytes(self) -> int:
        """Of the body, which may be a form around the file."""
        return self.max_mb * MB + MULTIPART_OVERHEAD_BYTES

    def refusal(self) -> TooLarge:
        return TooLarge(
            f"The {self.what} is over {self.max_mb} MB.",
            field=self.field,
            remedy=f"Make it smaller, or ask the operator to raise {self.setting}.",
        )


def upload_limits(settings: Settings, file_prefixes: Iterable[str] = ()) -> dict[str, UploadLimit]:
    """The limits of uploaded bodies, by the prefix of the path.

    file_prefixes: of other paths whose bodies are files.
    """
    max_file_mb, file_setting = settings.max_file_mb, "SEGSERVE_MAX_FILE_MB"
    return {
        "/v1/images": UploadLimit("picture", "file", settings.max_image_mb, "SEGSERVE_MAX_IMAGE_MB"),
        "/v1/files": UploadLimit("file", "file", max_file_mb, file_setting),
        **dict.fromkeys(file_prefixes, UploadLimit("body", "body", max_file_mb, file_setting)),
    }
