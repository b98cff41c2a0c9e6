"""The simulation behind docs/capacity.md agrees with what can be computed."""

import numpy as np
import pytest
from bench.capacity_simulation import Costs, Load, Shape, Simulation


def test_without_a_queue_a_click_takes_its_own_time_and_a_first_click_the_encode_too() -> None:
    costs = Costs(click_s=0.01, upload_s=0.001, fetch_s=0.002, encode_s=0.1, spread=0.001)
    outcome = Simulation(costs, Shape(4, 4, 4, 1, 1000), Load(8)).run(100, 10)
    assert np.median(outcome.cached) == pytest.approx(0.01, rel=0.02)
    assert np.median(outcome.first) == pytest.approx(0.112, rel=0.02)


def test_the_rate_of_clicks_and_the_busy_share_follow_from_the_load() -> None:
    load, costs = Load(40, think_s=1.0), Costs(click_s=0.01, upload_s=0.0, fetch_s=0.0, encode_s=0.05)
    outcome = Simulation(costs, Shape(1, 2, 2, 1, 1000), load).run(60, 20)
    assert len(outcome.cached) + len(outcome.first) == pytest.approx(60 * load.clicks_per_s, rel=0.05)
    assert outcome.api_busy == pytest.approx(load.clicks_per_s * 0.01 / 2, rel=0.1)
    assert outcome.encoder_busy == pytest.approx(load.new_images_per_s * 0.05 / 2, rel=0.3)


def test_one_core_makes_clicks_wait_as_queueing_theory_says() -> None:
    """M/D/1: on average a click waits for rho / (2 (1 - rho)) times its own time."""
    costs = Costs(click_s=0.01, upload_s=0.0, fetch_s=0.0, encode_s=0.0, spread=0.001)
    load = Load(120, think_s=2.0)
    outcome = Simulation(costs, Shape(1, 1, 1, 1, 100_000), load).run(60, 40)
    rho = load.clicks_per_s * 0.01
    assert np.mean(outcome.cached) == pytest.approx(0.01 * (1 + rho / (2 * (1 - rho))), rel=0.15)


def test_a_pod_that_holds_too_few_images_fetches_again() -> None:
    costs = Costs(click_s=0.001, upload_s=0.0, fetch_s=0.05, encode_s=0.0, spread=0.001)
    enough, few = (
        np.mean(Simulation(costs, Shape(1, 8, 8, 1, held), Load(20)).run(100, 50).cached)
        for held in (1000, 2)
    )
    assert few > 10 * enough


def test_the_same_seed_gives_the_same_answer() -> None:
    costs = Costs(click_s=0.01, upload_s=0.001, fetch_s=0.002, encode_s=0.1)
    first, second = (Simulation(costs, Shape(1, 2, 1, 2, 50), Load(10), seed=3).run(30, 5) for _ in range(2))
    assert first == second
