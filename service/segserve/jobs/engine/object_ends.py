"""The ends of a job's objects, as the job itself tells them: how many there were, and the latest.

All of them are in the result lines. A job is small, since each of its events holds all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from segserve.types import LossReason, ObjectEnd

# Both ends of 16 objects, which is more than a person follows at a time.
MAX_LATEST_ENDS = 32


@dataclass(frozen=True)
class ObjectEnds:
    """count: all ends of the job up to now. latest: the last `MAX_LATEST_ENDS` of them, in the order of the work."""

    count: int = 0
    latest: tuple[ObjectEnd, ...] = ()

    def append(self, ends: Sequence[ObjectEnd]) -> Self:
        """Return these ends and `ends`, which came after them."""
        return type(self)(self.count + len(ends), (*self.latest, *ends)[-MAX_LATEST_ENDS:])

    def encode(self) -> str:
        """Return the ends as text without spaces, for `decode`: 2;1:12:11:iou;3:20::empty."""
        items = [
            f"{end.object_id}:{end.frame}:{'' if end.last_frame is None else end.last_frame}:{end.reason}"
            for end in self.latest
        ]
        return ";".join([str(self.count), *items])

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the ends that `encode` made `text` of. An empty text is no ends."""
        count, *items = text.split(";")
        return cls(int(count or 0), tuple(decode_end(item) for item in items))


def decode_end(text: str) -> ObjectEnd:
    object_id, frame, last_frame, reason = text.split(":")
    last = int(last_frame) if last_frame else None
    return ObjectEnd(int(object_id), int(frame), last, LossReason(reason))


def end_to_json(end: ObjectEnd, unit: str) -> dict[str, Any]:
    """Return an end as result lines and jobs tell it. unit: frame or slice."""
    return {
        "object_id": end.object_id,
        unit: end.frame,
        f"last_{unit}": end.last_frame,
        "reason": end.reason,
    }
