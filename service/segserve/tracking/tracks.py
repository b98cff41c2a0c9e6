"""Tracks: objects through time, with the tracks that they divided from."""

from dataclasses import dataclass

from segserve.types import Int64


@dataclass(frozen=True)
class Track:
    """One object, from its first frame to its last, or to its division.

    track_id: from 1, in the order in which tracks begin.
    frames: where it was detected, ascending.
    parent: the track that divided into this one and others; None if there is none.
    """

    track_id: int
    frames: Int64
    parent: int | None = None

    @property
    def begin(self) -> int:
        return int(self.frames[0])

    @property
    def end(self) -> int:
        return int(self.frames[-1])


@dataclass(frozen=True)
class Tracks:
    """The result of linking.

    tracks: in the order of their ids.
    track_ids: for every frame, [n] the track ids of its detections, in their order. Detections of one frame with the
        same id are pieces of one object. 0: of no track.
    """

    tracks: list[Track]
    track_ids: list[Int64]
