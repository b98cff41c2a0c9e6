"""A finding: what broke, and the file that repeats it."""

import hashlib
import traceback
from dataclasses import dataclass
from pathlib import Path

# Lines of the explanation beside the file.
MAX_DETAIL_CHARACTERS = 20_000


@dataclass(frozen=True)
class Finding:
    """`Finding` is one broken promise.

    target: name of the harness or mutator.
    kind: what broke, such as "exception", "status", "hang", "died", "memory", "livez".
    signature: equal for findings that are probably one fault, such as the line that raised.
    data: the input that repeats it.
    detail: for who mends it.
    """

    target: str
    kind: str
    signature: str
    data: bytes
    detail: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.target, self.kind, self.signature

    def write(self, folder: Path) -> Path:
        """Write the input and, beside it, the explanation. Return the input's path."""
        digest = hashlib.sha256(self.data).hexdigest()[:12]
        path = folder / self.target / f"{self.kind}-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        text = f"{self.kind}: {self.signature}\n\n{self.detail}"
        path.with_suffix(".txt").write_text(text[:MAX_DETAIL_CHARACTERS], errors="backslashreplace")
        return path


def describe_exception(target: str, data: bytes, error: BaseException) -> Finding:
    """Return the finding of an exception. Its signature is its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if "segserve" in f.filename), frames[-1] if frames else None)
    where = "" if place is None else f" in {Path(place.filename).name}:{place.lineno}"
    text = "".join(traceback.format_exception(error))
    return Finding(target, "exception", f"{type(error).__name__}{where}", data, text)
