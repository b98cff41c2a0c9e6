"""A limit accepts as much work as it has slots, and refuses the rest at once."""

import pytest

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import Client
from segserve.errors import Busy

A, B, C = (Client("t", name) for name in "abc")


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
    limit.acquire(2, A)
    with pytest.raises(Busy, match="Four run from one address"):
        limit.acquire(1, A)
    limit.acquire(1, B)
    limit.acquire(1)  # of nobody in particular
    with pytest.raises(Busy, match=r"Four run\."):
        limit.acquire(1, C)
    assert refusals == ["client", "all"]
    limit.release(2, A)
    with limit.slot(client=A), limit.slot(client=A):
        assert limit.refusal(client=A) is not None


def test_a_client_that_holds_nothing_may_take_more_than_its_share_at_once() -> None:
    limit = ConcurrencyLimit(4, "Four run.", max_client_slots=1)
    with limit.slot(3, A):
        assert limit.refusal(client=A) is not None
        assert limit.refusal(client=B) is None


def test_a_tenant_leaves_room_to_others_however_many_clients_it_has() -> None:
    limit, refusals = (
        ConcurrencyLimit(16, "Sixteen run.", on_client_refused=lambda: refusals.append(1)),
        list[int](),
    )
    flood = [Client("flood", str(number)) for number in range(16)]
    for client in flood:
        limit.acquire(1, client)
    for client in flood:
        limit.release(1, client)
    assert limit.refusal(1, Client("calm", "x")) is None, "from now on there are two"
    for client in flood[:14]:
        limit.acquire(1, client)
    with pytest.raises(Busy, match="of one tenant"):
        limit.acquire(1, flood[14])
    assert refusals == [1]
    limit.acquire(1, Client("calm", "x"))
    limit.acquire(1, Client("calmer", "x"))
    limit.release(1, Client("calmer", "x"))
    limit.acquire(1, Client("t"))  # a job has no share


def test_several_tenants_leave_room_for_one_that_comes_later() -> None:
    limit = ConcurrencyLimit(64, "All run.")
    tenants = [Client(name, "x") for name in ("one", "two", "three")]
    refused = 0
    while refused < 3:
        refused = 0
        for client in tenants:
            if limit.refusal(1, client) is None:
                limit.acquire(1, client)
            else:
                refused += 1
    assert limit.refusal(1, Client("later", "x")) is None
