"""The objects of a frame while tracks are built: each is one detection, or several that are pieces of one object."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segserve.tracking.detections import Detections
from segserve.types import Float32

Pieces = tuple[int, ...]  # positions of an object's detections in its frame


@dataclass(frozen=True)
class FrameObjects:
    """The n objects of one frame.

    pieces: of each object. centres: [n, 2], (x, y). areas: [n], in pixels.
    descriptors: [n, C] of length 1, or None where they were not measured.
    contacts: the length in pixels of the border that two objects share, by their positions, the lower one first.
    """

    pieces: list[Pieces]
    centres: NDArray[np.float64]
    areas: NDArray[np.float64]
    descriptors: Float32 | None
    contacts: dict[tuple[int, int], float]

    @property
    def count(self) -> int:
        return len(self.pieces)


def group_detections(detections: Detections, pieces: Sequence[Pieces]) -> FrameObjects:
    """Return the objects whose pieces are given; each detection is a piece of one of them."""
    object_of = np.zeros(detections.count, np.intp)
    for index, members in enumerate(pieces):
        object_of[list(members)] = index
    count, areas = len(pieces), detections.areas.astype(np.float64)
    totals = np.bincount(object_of, areas, count).astype(np.float64)
    sums = [np.bincount(object_of, areas * axis, count) for axis in detections.centres.T]
    contacts: dict[tuple[int, int], float] = {}
    for pair, length in zip(detections.contacts.pairs, detections.contacts.lengths, strict=True):
        first, second = sorted(object_of[pair].tolist())
        if first != second:
            contacts[first, second] = contacts.get((first, second), 0.0) + float(length)
    return FrameObjects(
        list(pieces),
        np.stack(sums, axis=1) / np.maximum(totals, 1)[:, None],
        totals,
        None if detections.descriptors is None else average_descriptors(detections, object_of, count),
        contacts,
    )


def average_descriptors(detections: Detections, object_of: NDArray[np.intp], count: int) -> Float32:
    """Return the mean descriptor [count, C] of each object's pieces, weighted by their areas, of length 1."""
    assert detections.descriptors is not None
    totals = np.zeros((count, detections.descriptors.shape[1]), np.float32)
    np.add.at(totals, object_of, detections.descriptors * detections.areas[:, None].astype(np.float32))
    return set_length_1(totals)


def single_pieces(detections: Detections) -> list[Pieces]:
    """Return every detection as an object of its own."""
    return [(position,) for position in range(detections.count)]


def centre_descriptors(frames: Sequence[Detections]) -> list[Detections]:
    """Return the detections with descriptors that say how each object differs from the mean of all of them.

    The objects of one video look much alike: their descriptors have cosines of 0.97, and those of one cell on two
    frames of 0.99. Less the mean, they have cosines of 0 and of 0.8.
    """
    descriptors = [each.descriptors for each in frames]
    known = [values for values in descriptors if values is not None]
    if len(known) < len(frames):
        return [replace(each, descriptors=None) for each in frames]
    mean = np.concatenate(known).mean(axis=0)
    return [
        replace(each, descriptors=set_length_1(values - mean))
        for each, values in zip(frames, known, strict=True)
    ]


def set_length_1(vectors: Float32) -> Float32:
    """Return vectors [n, C] of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
