"""Automatic segmentation of volumes: the objects of its slices, each segmented alone, become objects through slices.

As Segment Anything for Microscopy does it (micro-sam 1.8, `automatic_3d_segmentation`): an object and one of the next
slice attract each other by the part of the first that lies under the second, and the multicut of these pairs says
what is one. By the same library, so that labels are micro-sam's but for what they are numbered.

It differs where micro-sam's result is not what it says. `beta` there is handed to a solver that ignores it; here it
has its effect. `with_background` is about edges to the background, of which there are none: it is left out. With
`gap_closing` the objects after an empty slice at either end there take the ids of earlier ones, which joins them; and
in a slice without background the object of the least id is joined to nothing. Neither happens here.
"""

from dataclasses import dataclass
from itertools import pairwise

import bioimage_cpp as bic
import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]
IdPairs = NDArray[np.uint64]

MIN_PROBABILITY = 0.001  # probabilities are kept so far from 0 and 1, as elf's `compute_edge_costs` does
# micro-sam shifts every edge cost by this much towards joining: at beta 0.5 objects that overlap by 27% are joined.
JOIN_BIAS = 1.0


@dataclass(frozen=True)
class VolumeParams:
    """Names and defaults of micro-sam's `merge_instance_segmentation_3d`.

    beta: above 0, below 1; the higher, the less is joined. gap_closing: iterations of a binary closing along z, each
    of which closes gaps of two slices more. min_z_extent: objects that reach through fewer slices are left out. None is
    none.
    """

    beta: float = 0.5
    gap_closing: int | None = None
    min_z_extent: int | None = None


def merge_slices(labels: UInt32, params: VolumeParams) -> None:
    """Label maps [Z, H, W] of each slice alone, 0 its background, to those of the volume: ids 1 to n in the order in
    which objects begin. In place; beside them it takes a few slices of memory, with gap_closing a byte a voxel."""
    number_objects(labels)
    if params.gap_closing:
        close_gaps(labels, params.gap_closing)
        number_objects(labels)
    slice_of = np.searchsorted(compute_last_ids(labels), np.arange(1, int(labels.max(initial=0)) + 1))
    table = remove_thin_objects(
        join_by_multicut(labels, len(slice_of), params.beta), slice_of, params.min_z_extent or 0
    )
    for each in labels:
        each[:] = table[each]


def number_objects(labels: UInt32) -> None:
    """In place, so that no two objects have one id: 1 to n through all slices."""
    offset = 1
    for each in labels:
        each[:], _, known = bic.segmentation.relabel_sequential(each, offset=offset)
        offset = max(offset, len(known))


def compute_last_ids(labels: UInt32) -> NDArray[np.uint32]:
    """[Z]: the last id up to each slice of numbered labels."""
    last: UInt32 = np.maximum.accumulate([each.max(initial=0) for each in labels])
    return last


def join_by_multicut(labels: UInt32, count: int, beta: float) -> UInt32:
    """[count + 1]: for every id of numbered labels, the object it belongs to, 1 to n in order; 0 stays 0."""
    pairs, overlaps = find_overlaps(labels)
    graph = bic.graph.UndirectedGraph(count + 1)
    graph.insert_edges(pairs)
    objective = bic.graph.multicut.MulticutObjective(graph, compute_edge_costs(overlaps, beta))
    solver = bic.graph.multicut.MulticutDecomposer(
        bic.graph.multicut.KernighanLinMulticut(), number_of_threads=1
    )
    return renumber_in_order(solver.optimize(objective)[1:] + 1)


def find_overlaps(labels: UInt32) -> tuple[IdPairs, NDArray[np.float64]]:
    """Pairs [N, 2] of ids that overlap from a slice to the next, and [N] the part of the first under the second."""
    pairs, overlaps = [np.zeros((0, 2), np.uint64)], [np.zeros(0)]
    for this, following in pairwise(labels):
        table = bic.utils.segmentation_overlap(this, following).overlap_table(normalize_by="a")
        table = np.sort(table[(table["label_a"] > 0) & (table["label_b"] > 0)], order=["label_a", "label_b"])
        pairs.append(np.stack([table["label_a"], table["label_b"]], axis=1))
        overlaps.append(table["fraction"])
    return np.concatenate(pairs), np.concatenate(overlaps)


def compute_edge_costs(overlaps: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Log odds; positive joins."""
    odds = MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * overlaps
    costs: NDArray[np.float64] = JOIN_BIAS + np.log(odds / (1 - odds)) + np.log((1 - beta) / beta)
    return costs


def renumber_in_order(objects: NDArray[np.uint64]) -> UInt32:
    """Objects by ids from 1 on, 0 for those left out, to a table from 0 on of the same objects as 1 to n in the order
    in which they come."""
    found, first, inverse = np.unique(np.append(0, objects), return_index=True, return_inverse=True)
    rank = np.empty(len(found), np.uint32)
    rank[np.argsort(first)] = np.arange(len(found))
    return rank[inverse]


def remove_thin_objects(table: UInt32, slice_of: NDArray[np.intp], min_z_extent: int) -> UInt32:
    """slice_of: of every id from 1 on."""
    objects = table[1:]
    first = np.full(int(table.max()) + 1, len(objects), np.intp)
    last = np.full(len(first), -1, np.intp)
    np.minimum.at(first, objects, slice_of)
    np.maximum.at(last, objects, slice_of)
    return renumber_in_order(np.where(last - first + 1 < min_z_extent, 0, np.arange(len(first)))[objects])


def close_gaps(labels: UInt32, iterations: int) -> None:
    """In place, by a binary closing along z alone, so that neighbours in a slice do not merge. The slices at either
    end, which have none on one side, stay as they are."""
    inside = labels > 0
    for index in range(iterations, len(labels) - iterations):
        around = range(index - iterations, index + iterations + 1)
        dilated = [inside[max(0, each - iterations) : each + iterations + 1].any(axis=0) for each in around]
        labels[index] = close_slice(labels[index], np.all(dilated, axis=0))


def close_slice(labels: UInt32, closed: NDArray[np.bool_]) -> UInt32:
    """The pieces of the closed mask; but where one would join objects of the slice, these, as they were."""
    pieces = bic.segmentation.label(closed).astype(np.uint32)
    table = bic.utils.segmentation_overlap(pieces, labels).overlap_table()
    table = table[(table["label_a"] > 0) & (table["label_b"] > 0)]
    several = np.bincount(table["label_a"].astype(np.intp), minlength=int(pieces.max(initial=0)) + 1) > 1
    kept = np.isin(labels, table["label_b"][several[table["label_a"]]])
    result = np.where(several[pieces], 0, pieces).astype(np.uint32)
    result[kept] = labels[kept] + pieces.max(initial=0)
    return result
