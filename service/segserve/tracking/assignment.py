"""The linear assignment problem with births and deaths: which of two sets of objects belong together.

As in Jaqaman et al. (Nature Methods 2008): every object may also stay alone, at a cost of its own. Only pairs that may
be linked at all are in the problem, so thousands of objects are solved in the time of their neighbours.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from segserve.types import Int64


def assign_pairs(pairs: Int64, costs: NDArray[np.float64], alone_cost: float) -> NDArray[np.intp]:
    """Return the indices of the pairs that are linked, ascending: each object in one pair at most, at the least cost.

    pairs: [k, 2], an object of the first set and one of the second, each pair once.
    costs: [k], of linking; a pair at `alone_cost` or more is never linked.
    alone_cost: of leaving both objects of a pair alone.
    """
    gains = alone_cost - costs
    useful = np.flatnonzero(gains > 0)
    if not len(useful):
        return np.zeros(0, np.intp)
    first, rows = np.unique(pairs[useful, 0], return_inverse=True)
    second, columns = np.unique(pairs[useful, 1], return_inverse=True)
    total = len(first) + len(second)
    graph = csr_array((np.ones(len(useful)), (rows, columns + len(first))), shape=(total, total))
    count, components = connected_components(graph, directed=False)
    order = np.argsort(components[rows], kind="stable")
    bounds = np.searchsorted(components[rows][order], np.arange(count + 1))
    chosen = [
        solve_component(useful[part], rows[part], columns[part], gains)
        for part in (order[begin:end] for begin, end in pairwise(bounds))
    ]
    return np.sort(np.concatenate(chosen))


def solve_component(
    pairs: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], gains: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return those of the pairs whose sum of gains is largest, in a set of objects that are connected by pairs."""
    if len(pairs) == 1:
        return pairs
    from scipy.optimize import linear_sum_assignment  # imports a third of scipy; only tracking needs it

    first, row = np.unique(rows, return_inverse=True)
    second, column = np.unique(columns, return_inverse=True)
    # Leaving objects alone gains 0, as does a pair that is not in the problem.
    matrix = np.zeros((len(first), len(second)))
    matrix[row, column] = gains[pairs]
    position = np.full(matrix.shape, -1, np.intp)
    position[row, column] = pairs
    linked = position[linear_sum_assignment(matrix, maximize=True)]
    return linked[linked >= 0]
