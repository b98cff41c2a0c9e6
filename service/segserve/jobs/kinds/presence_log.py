"""Which objects of a video are there, frame by frame, for an engine that never gives up: it may find an object again
after any time. So an object that is missing for long is told as lost, once, and is still looked for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from segserve.types import LossReason, ObjectEnd


@dataclass
class Presence:
    """Where an object was. `None` for missing_since and reason: it is there.

    first_frame, last_frame: where it was first and last found.
    missing_since, reason: the first frame since then without it, and why.
    told: whether its loss was told.
    """

    first_frame: int
    last_frame: int
    missing_since: int | None = None
    reason: LossReason | None = None
    told: bool = False


class PresenceLog:
    """`PresenceLog` notes the objects on one frame after the other. max_gap: frames until a missing object is lost."""

    def __init__(self, max_gap: int) -> None:
        self._max_gap = max_gap
        self._objects: dict[int, Presence] = {}

    def turn(self) -> None:
        """Begin to go back, from the frames where the objects were found first."""
        for object_id, item in self._objects.items():
            self._objects[object_id] = Presence(item.first_frame, item.first_frame)

    def note(
        self, frame: int, reasons: Mapping[int, LossReason | None], *, is_last: bool
    ) -> tuple[dict[int, LossReason], list[ObjectEnd]]:
        """Return which objects are missing on a frame, with the reasons, and the ends that are told now.

        reasons: for each object, why it is not on the frame; None where it is. is_last: no frame comes after it.

        An object is not missing before it was found once.
        """
        missing, ends = dict[int, LossReason](), list[ObjectEnd]()
        for object_id, reason in reasons.items():
            item = self._objects.get(object_id)
            if reason is None:
                first = frame if item is None else item.first_frame
                self._objects[object_id] = Presence(first, frame)
            elif item is not None:
                missing[object_id] = reason
                if item.missing_since is None:
                    item.missing_since, item.reason = frame, reason
                has_waited = abs(frame - item.missing_since) >= self._max_gap
                if not item.told and (has_waited or is_last):
                    item.told = True
                    loss = item.reason or reason
                    ends.append(ObjectEnd(object_id, item.missing_since, item.last_frame, loss))
        return missing, ends

    def dump(self) -> bytes:
        """Return everything that is noted as one line of JSON, for `load`."""
        return orjson.dumps([(object_id, asdict(item)) for object_id, item in self._objects.items()])

    def load(self, dumped: bytes) -> None:
        self._objects = {object_id: load_presence(fields) for object_id, fields in orjson.loads(dumped)}


def load_presence(fields: dict[str, Any]) -> Presence:
    reason = fields["reason"]
    return Presence(**{**fields, "reason": None if reason is None else LossReason(reason)})
