"""Label maps of single slices, as the states of a job's chunks keep them until they are joined."""

import asyncio
import io
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import MOST_IN_16_BITS, Labels
from segserve.tracking.detections import Detections, measure

CHUNK = 8  # slices: at most so many are done again after a crash, and held at once

T = TypeVar("T")


class States(Protocol):
    async def state(self, chunk: int) -> bytes | None:
        """What a published chunk left for those that follow."""
        ...


class Segmented:
    """What was segmented, piece by piece, as the states of the first chunks have it."""

    def __init__(self, past: States, slices: int) -> None:
        self._past, self._slices = past, slices
        self.count = -(-slices // CHUNK)

    def indices(self, piece: int) -> range:
        return range(piece * CHUNK, min(self._slices, (piece + 1) * CHUNK))

    async def maps(self, piece: int) -> list[Labels]:
        return await self._each(piece, unpack_labels)

    async def detections(self, piece: int) -> list[Detections]:
        return await self._each(piece, unpack_detections)

    async def _each(self, piece: int, unpack: Callable[[Any, int], T]) -> list[T]:
        state = await self._past.state(piece)
        if state is None:
            raise RuntimeError(f"the state of chunk {piece} is missing")

        def unpacked() -> list[T]:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                return [unpack(arrays, place) for place in range(len(self.indices(piece)))]

        return await asyncio.to_thread(unpacked)


def pack(maps: list[Labels]) -> bytes:
    """The same bytes for the same maps. Their objects are measured beside them, so that who links them need not read
    the maps for it."""
    arrays: dict[str, NDArray[Any]] = {}
    for place, each in enumerate(maps):
        found = measure(each)
        small = each.max(initial=0) <= MOST_IN_16_BITS
        arrays[f"labels{place}"] = each.astype(np.uint16 if small else np.uint32)
        arrays[f"ids{place}"], arrays[f"centres{place}"], arrays[f"areas{place}"] = (
            found.ids,
            found.centres,
            found.areas,
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_labels(arrays: Any, place: int) -> Labels:
    found: Labels = arrays[f"labels{place}"]
    return found


def unpack_detections(arrays: Any, place: int) -> Detections:
    return Detections(*(arrays[f"{name}{place}"] for name in ("ids", "centres", "areas")))
