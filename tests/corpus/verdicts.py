"""What the check of one file can find."""

import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_REQUEST_S = 5.0
# A larger file may take longer.
LARGE_FILE_BYTES = 100_000_000


class Verdict(StrEnum):
    """What came of one file on one route, or on both together: the first that holds, from bad to good."""

    SERVER_ERROR = "server error"  # a status of 500 or more, or no answer
    JOB_FAILED = "job failed"  # after a 201
    UNREADABLE = "unreadable"  # after a 201, this process cannot read a frame
    WRONG_FRAMES = "wrong frames"
    WRONG_SIZE = "wrong size"
    WRONG_PIXELS = "wrong pixels"
    WRONG_SPACING = "wrong spacing"
    REFUSED = "refused, but readable"  # an independent reader has pixels of it
    UNKNOWN = "accepted, read by nobody else"
    RIGHT_SIZE = "right, pixels not compared"
    RIGHT = "right"
    REFUSED_RIGHTLY = "refused by all"
    ELSEWHERE = "refused here, taken by the other route"


BROKEN_PROMISES = {Verdict.SERVER_ERROR, Verdict.JOB_FAILED, Verdict.UNREADABLE}
WRONG = {Verdict.WRONG_FRAMES, Verdict.WRONG_SIZE, Verdict.WRONG_PIXELS, Verdict.WRONG_SPACING}
DOUBTFUL = {*BROKEN_PROMISES, *WRONG, Verdict.REFUSED}

# A file of the server, and words that only a library says. A message may name an entry of the user's own archive,
# which is why a folder must follow the slash.
LEAKS = re.compile(
    r"""(?x)
    (?<![\w.:/-]) / (?:tmp|home|usr|var|root|proc|dev|opt|work|data|app|mnt|etc) /
    | \b[\w./-]+\.(?:cxx|hxx|cpp|so)\b | site-packages | \bTraceback\b | \b0x[0-9a-f]{6,}
    | \bitk::|\bITK\b[ ]ERROR | \bgdcm\b | \bcodec[ ]can't[ ]decode | \[?Errno\b
    | \b(?:pyvips|libvips|vips2|libav\w*|avcodec|tifffile|numpy|pydicom|SimpleITK|imagecodecs|PIL)\.\w+
    | \b[A-Z]\w*(?:Error|Exception)\b
    """
)


def find_leak(message: str) -> str:
    """Return the part of a message that no user should see, "" if there is none."""
    found = LEAKS.search(message)
    return message[max(0, found.start() - 20) : found.end() + 40] if found else ""


@dataclass
class RouteResult:
    """What one route made of a file.

    status: of the upload; 0 if there was no answer. message: of the problem document, with its remedy.
    taken: kind, format, frames, width, height as answered. reader: that it was compared with.
    seconds: of the upload. job_seconds: of the job and of reading the pixels. leak: see `find_leak`.
    """

    route: str
    status: int
    verdict: Verdict
    detail: str = ""
    message: str = ""
    taken: dict[str, Any] = field(default_factory=dict)
    reader: str = ""
    seconds: float = 0.0
    job_seconds: float = 0.0
    leak: str = ""


@dataclass
class FileResult:
    """What both routes made of a file.

    path: below the corpus's folder. format: by the content. peak_mb: what the service and its readers held meanwhile,
    at most, above the start.
    """

    path: str
    format: str
    size_bytes: int
    routes: list[RouteResult]
    peak_mb: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the routes; what the other route took counts for nothing."""
        order = list(Verdict)
        return min((each.verdict for each in self.routes), key=order.index)

    @property
    def slow(self) -> bool:
        """Whether an upload took too long for the size of the file."""
        return self.size_bytes < LARGE_FILE_BYTES and any(
            each.seconds > MAX_REQUEST_S for each in self.routes
        )

    @property
    def broken(self) -> bool:
        """Whether a promise is broken."""
        return self.verdict in BROKEN_PROMISES or any(each.leak for each in self.routes)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict, "slow": self.slow, "broken": self.broken}


def settle_routes(images: RouteResult, files: RouteResult) -> None:
    """Set the verdict of a route that refused what the other one took."""
    for refused, other in ((images, files), (files, images)):
        if refused.verdict in (Verdict.REFUSED, Verdict.REFUSED_RIGHTLY) and other.status == 201:
            refused.verdict = Verdict.ELSEWHERE
