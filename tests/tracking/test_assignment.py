"""Objects are paired at the least cost, and stay alone where that costs less."""

from itertools import product

import numpy as np

from segserve.tracking.assignment import assign_pairs


def assign(costs: dict[tuple[int, int], float], alone_cost: float = 1.0) -> list[tuple[int, int]]:
    pairs = np.array(list(costs), np.int64).reshape(-1, 2)
    chosen = assign_pairs(pairs, np.array(list(costs.values()), float), alone_cost)
    return [(int(first), int(second)) for first, second in pairs[chosen]]


def test_the_sum_of_the_costs_is_least_and_not_each_cost() -> None:
    assert assign({(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.15, (1, 1): 0.9}) == [(0, 1), (1, 0)]


def test_pairs_as_costly_as_staying_alone_are_not_made() -> None:
    assert assign({(0, 0): 1.0, (1, 1): 0.99, (2, 2): 3.0}) == [(1, 1)]
    assert assign({}) == []


def test_random_problems_are_solved_as_by_trying_all() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        costs = {
            pair: float(random.uniform(0, 1.5))
            for pair in product(range(3), range(4))
            if random.random() < 0.6
        }
        best = 0.0
        for choice in product([None, 0, 1, 2, 3], repeat=3):
            made = [(first, second) for first, second in enumerate(choice) if second is not None]
            if len({second for _, second in made}) == len(made) and all(pair in costs for pair in made):
                best = max(best, sum(1 - costs[pair] for pair in made))
        assert np.isclose(sum(1 - costs[pair] for pair in assign(costs)), best)
