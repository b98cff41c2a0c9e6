"""Automatic segmentation of volumes: the objects of single slices become objects through slices, by multicut.

As Segment Anything for Microscopy does it (micro-sam 1.8, `automatic_3d_segmentation`). An object attracts an object
of the next slice by its overlap: the part of the first that lies under the second. The multicut of these pairs decides
which are one object. The library is micro-sam's, so the labels are micro-sam's but for their numbers.

It differs from micro-sam in four points, where micro-sam does not do what it documents:
- micro-sam hands `beta` to a solver that ignores it; here it has its effect.
- `with_background` is about edges to the background, and there are none: it is left out.
- With `gap_closing`, micro-sam gives objects after an empty slice at either end the ids of earlier objects, which joins
  them. Here they keep ids of their own.
- In a slice without background, micro-sam joins the object of the lowest id to nothing. Here it is joined like others.
"""

from dataclasses import dataclass
from itertools import pairwise

import bioimage_cpp as bic
import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]
IdPairs = NDArray[np.uint64]

# Probabilities are kept this far from 0 and 1, as elf's `compute_edge_costs` keeps them.
MIN_PROBABILITY = 0.001
# micro-sam shifts every edge cost by this much towards joining: at beta 0.5 objects that overlap by 27% are joined.
JOIN_BIAS = 1.0


@dataclass(frozen=True)
class VolumeParams:
    """Names and defaults of micro-sam's `merge_instance_segmentation_3d`, and what it does not have.

    beta: above 0 and below 1; a higher value joins fewer objects.
    gap_closing: iterations of a binary closing along z; each closes gaps that are two slices longer. None closes none.
    min_z_extent: objects through fewer slices are removed. None removes none.
    min_size_share, min_contrast: see `false_objects`, which micro-sam does not have; 0 removes none.
    """

    beta: float = 0.5
    gap_closing: int | None = None
    min_z_extent: int | None = None
    min_size_share: float = 0.0
    min_contrast: float = 0.0


def merge_slices(labels: UInt32, params: VolumeParams) -> None:
    """Turn label maps [Z, H, W] of single slices, 0 their background, into the label map of the volume, in place.

    Ids become 1 to n, in the order in which objects begin. It takes the memory of a few slices more, and with
    gap_closing one byte per voxel.
    """
    number_objects(labels)
    if params.gap_closing:
        close_gaps(labels, params.gap_closing)
        number_objects(labels)
    last_ids = compute_last_ids(labels)
    slices = np.searchsorted(last_ids, np.arange(1, int(labels.max(initial=0)) + 1))
    table = join_by_multicut(labels, len(slices), params.beta)
    table = remove_thin_objects(table, slices, params.min_z_extent or 0)
    for slice_labels in labels:
        slice_labels[:] = table[slice_labels]


def number_objects(labels: UInt32) -> None:
    """Renumber the objects of all slices 1 to n, in place, so that no two have the same id."""
    offset = 1
    for slice_labels in labels:
        slice_labels[:], _, old_ids = bic.segmentation.relabel_sequential(slice_labels, offset=offset)
        offset = max(offset, len(old_ids))


def compute_last_ids(labels: UInt32) -> NDArray[np.uint32]:
    """Return the highest id up to each slice of numbered labels, [Z]."""
    last_ids: UInt32 = np.maximum.accumulate([slice_labels.max(initial=0) for slice_labels in labels])
    return last_ids


def join_by_multicut(labels: UInt32, count: int, beta: float) -> UInt32:
    """Return the object of every id of numbered labels, [count + 1]: 1 to n in order; 0 stays 0."""
    pairs, overlaps = find_overlaps(labels)
    graph = bic.graph.UndirectedGraph(count + 1)
    graph.insert_edges(pairs)
    objective = bic.graph.multicut.MulticutObjective(graph, compute_edge_costs(overlaps, beta))
    solver = bic.graph.multicut.MulticutDecomposer(
        bic.graph.multicut.KernighanLinMulticut(), number_of_threads=1
    )
    return renumber_in_order(solver.optimize(objective)[1:] + 1)


def find_overlaps(labels: UInt32) -> tuple[IdPairs, NDArray[np.float64]]:
    """Return the pairs [N, 2] of ids that overlap in consecutive slices, and their overlaps [N].

    The overlap is the part of the first object, 0 to 1, that lies under the second.
    """
    pairs, overlaps = [np.zeros((0, 2), np.uint64)], [np.zeros(0)]
    for current, following in pairwise(labels):
        table = bic.utils.segmentation_overlap(current, following).overlap_table(normalize_by="a")
        table = np.sort(table[(table["label_a"] > 0) & (table["label_b"] > 0)], order=["label_a", "label_b"])
        pairs.append(np.stack([table["label_a"], table["label_b"]], axis=1))
        overlaps.append(table["fraction"])
    return np.concatenate(pairs), np.concatenate(overlaps)


def compute_edge_costs(overlaps: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return the log odds of joining each pair; positive costs join."""
    odds = MIN_PROBABILITY + (1 - 2 * MIN_PROBABILITY) * overlaps
    costs: NDArray[np.float64] = JOIN_BIAS + np.log(odds / (1 - odds)) + np.log((1 - beta) / beta)
    return costs


def renumber_in_order(objects: NDArray[np.uint64]) -> UInt32:
    """Return the table [n + 1] from ids to objects, the objects numbered 1 to n in the order in which they begin.

    objects: [n], the object of each id from 1 on; 0 for removed ones.
    """
    numbers, first, inverse = np.unique(np.append(0, objects), return_index=True, return_inverse=True)
    rank = np.empty(len(numbers), np.uint32)
    rank[np.argsort(first)] = np.arange(len(numbers))
    return rank[inverse]


def remove_thin_objects(table: UInt32, slices: NDArray[np.intp], min_z_extent: int) -> UInt32:
    """Remove objects through fewer than `min_z_extent` slices from the table from ids to objects.

    slices: the slice of every id from 1 on.
    """
    objects = table[1:]
    first = np.full(int(table.max()) + 1, len(objects), np.intp)
    last = np.full(len(first), -1, np.intp)
    np.minimum.at(first, objects, slices)
    np.maximum.at(last, objects, slices)
    return renumber_in_order(np.where(last - first + 1 < min_z_extent, 0, np.arange(len(first)))[objects])


def close_gaps(labels: UInt32, iterations: int) -> None:
    """Close gaps between slices in place, by a binary closing along z.

    It closes along z alone, so neighbours in a slice do not merge. The slices at either end stay as they are, because
    they lack neighbours on one side.
    """
    inside = labels > 0
    for index in range(iterations, len(labels) - iterations):
        neighbours = range(index - iterations, index + iterations + 1)
        dilated = [inside[max(0, z - iterations) : z + iterations + 1].any(axis=0) for z in neighbours]
        labels[index] = close_slice(labels[index], np.all(dilated, axis=0))


def close_slice(labels: UInt32, closed: NDArray[np.bool_]) -> UInt32:
    """Return the labels [H, W] of the connected components of the closed mask of a slice.

    A component that would join several objects of the slice is replaced by these objects, unchanged.
    """
    components = bic.segmentation.label(closed).astype(np.uint32)
    table = bic.utils.segmentation_overlap(components, labels).overlap_table()
    table = table[(table["label_a"] > 0) & (table["label_b"] > 0)]
    counts = np.bincount(table["label_a"].astype(np.intp), minlength=int(components.max(initial=0)) + 1)
    joins_several = counts > 1
    is_kept = np.isin(labels, table["label_b"][joins_several[table["label_a"]]])
    result = np.where(joins_several[components], 0, components).astype(np.uint32)
    result[is_kept] = labels[is_kept] + components.max(initial=0)
    return result
