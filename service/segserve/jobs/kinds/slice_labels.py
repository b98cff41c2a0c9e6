"""Label maps of single slices and the evidence for their objects, packed into the state of a job's chunk until they
are joined."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import MAX_UINT16_ID, Labels
from segserve.tracking.detections import NO_CONTACTS, Contacts, Detections, measure_detections
from segserve.types import Float32

# Slices of one chunk: these are in memory together, and made again after a crash.
SLICES_PER_CHUNK = 8

EVIDENCE = ("descriptors", "contrasts")  # as `LabelledSlice` and `Detections` name it

T = TypeVar("T")


@dataclass(frozen=True)
class LabelledSlice:
    """The objects of one slice, and what the slice shows of them, by ascending id.

    labels: label map [H, W].
    descriptors: [n, C], see `decode.object_descriptor`. contrasts: [n, 3], see `projection.object_evidence`.
    """

    labels: Labels
    descriptors: Float32 | None = None
    contrasts: Float32 | None = None


class ChunkStates(Protocol):
    """`ChunkStates` reads the states of published chunks."""

    async def read_state(self, chunk: int) -> bytes | None: ...


class SegmentedSlices:
    """`SegmentedSlices` reads what was segmented, piece by piece, from the states of a job's first chunks.

    A piece is the slices of one chunk. slices: how many slices there are.
    """

    def __init__(self, past: ChunkStates, slices: int) -> None:
        self._past, self._slices = past, slices
        self.piece_count = -(-slices // SLICES_PER_CHUNK)

    def indices(self, piece: int) -> range:
        """Return the indices of the piece's slices."""
        return range(piece * SLICES_PER_CHUNK, min(self._slices, (piece + 1) * SLICES_PER_CHUNK))

    async def read_label_maps(self, piece: int) -> list[Labels]:
        return await self._read(piece, unpack_labels)

    async def read_detections(self, piece: int) -> list[Detections]:
        return await self._read(piece, unpack_detections)

    async def _read(self, piece: int, unpack: Callable[[Any, int], T]) -> list[T]:
        state = await self._past.read_state(piece)
        if state is None:
            raise RuntimeError(f"the state of chunk {piece} is missing")

        def unpack_all() -> list[T]:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                return [unpack(arrays, position) for position in range(len(self.indices(piece)))]

        return await asyncio.to_thread(unpack_all)


def pack_slices(slices: list[LabelledSlice]) -> bytes:
    """Return the slices of a piece as an .npz file: equal bytes for equal slices.

    The objects of every map are measured and stored too, so that tracks can be linked without reading the maps.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for position, labelled in enumerate(slices):
        labels, detections = labelled.labels, measure_detections(labelled.labels)
        fits_16_bits = labels.max(initial=0) <= MAX_UINT16_ID
        arrays[f"labels{position}"] = labels.astype(np.uint16 if fits_16_bits else np.uint32)
        arrays[f"ids{position}"] = detections.ids
        arrays[f"centres{position}"] = detections.centres
        arrays[f"areas{position}"] = detections.areas
        arrays[f"contact_pairs{position}"] = detections.contacts.pairs
        arrays[f"contact_lengths{position}"] = detections.contacts.lengths
        for name in EVIDENCE:
            if (values := getattr(labelled, name)) is not None:
                arrays[f"{name}{position}"] = values.astype(np.float16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_labels(arrays: Any, position: int) -> Labels:
    labels: Labels = arrays[f"labels{position}"]
    return labels


def unpack_detections(arrays: Any, position: int) -> Detections:
    """Return the detections of a slice. A state that an earlier version wrote has no contacts and no evidence."""
    ids, centres, areas = (arrays[f"{name}{position}"] for name in ("ids", "centres", "areas"))
    contacts = NO_CONTACTS
    if f"contact_pairs{position}" in arrays:
        contacts = Contacts(arrays[f"contact_pairs{position}"], arrays[f"contact_lengths{position}"])
    evidence = {
        name: arrays[f"{name}{position}"].astype(np.float32)
        for name in EVIDENCE
        if f"{name}{position}" in arrays
    }
    return Detections(ids, centres, areas, contacts, **evidence)
