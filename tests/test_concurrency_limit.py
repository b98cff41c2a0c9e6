"""A limit accepts as much work as it has slots, and refuses the rest at once."""

import pytest

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.errors import Busy


def test_work_beyond_the_slots_is_refused_and_counted_until_a_slot_is_free() -> None:
    refusals: list[None] = []
    limit = ConcurrencyLimit(2, "Full.", retry_after_s=7, on_refused=lambda: refusals.append(None))
    with limit.slot(), limit.slot():
        with pytest.raises(Busy, match="Full") as refused, limit.slot():
            pass
        assert refused.value.retry_after_s == 7
        assert len(refusals) == 1
    assert limit.refusal() is None
    assert len(refusals) == 1


def test_a_slot_is_given_back_when_the_work_fails() -> None:
    limit = ConcurrencyLimit(1, "Full.")
    with pytest.raises(ZeroDivisionError), limit.slot():
        1 / 0  # noqa: B018
    with limit.slot():
        assert limit.refusal() is not None


def test_a_smaller_limit_holds_for_those_who_come_after() -> None:
    limit = ConcurrencyLimit(3, "Full.")
    with limit.slot(), limit.slot():
        limit.max_slots = 1
        assert limit.refusal() is not None
    with limit.slot():
        assert limit.refusal() is not None
    assert limit.refusal() is None


def test_one_client_gets_its_share_and_others_get_the_rest() -> None:
    refusals: list[str] = []
    limit = ConcurrencyLimit(
        4,
        "Four run.",
        max_client_slots=2,
        on_refused=lambda: refusals.append("all"),
        on_client_refused=lambda: refusals.append("client"),
    )
    limit.acquire(2, "a")
    with pytest.raises(Busy, match="Four run from one address"):
        limit.acquire(1, "a")
    limit.acquire(1, "b")
    limit.acquire(1)  # of nobody in particular
    with pytest.raises(Busy, match=r"Four run\."):
        limit.acquire(1, "c")
    assert refusals == ["client", "all"]
    limit.release(2, "a")
    with limit.slot(client="a"), limit.slot(client="a"):
        assert limit.refusal(client="a") is not None


def test_a_client_that_holds_nothing_may_take_more_than_its_share_at_once() -> None:
    limit = ConcurrencyLimit(4, "Four run.", max_client_slots=1)
    with limit.slot(3, "a"):
        assert limit.refusal(client="a") is not None
        assert limit.refusal(client="b") is None
