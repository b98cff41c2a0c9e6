import pytest

from segserve.errors import RateLimited
from segserve.identity import failure_limit
from segserve.identity.failure_limit import FailureLimit


def test_who_fails_too_often_is_refused_whatever_he_sends() -> None:
    limit = FailureLimit(max_failures=3, forget_s=1000)
    for _ in range(3):
        limit.check("192.0.2.1", "wrong")
        limit.count_failure("192.0.2.1")
    with pytest.raises(RateLimited) as caught:
        limit.check("192.0.2.1", "perhaps right")
    assert 0 < caught.value.retry_after_s <= 1000
    limit.check("192.0.2.2", "perhaps right")


def test_a_credential_that_was_right_there_before_goes_on() -> None:
    limit = FailureLimit(max_failures=1, forget_s=1000)
    limit.note_success("192.0.2.1", "right")
    limit.count_failure("192.0.2.1")
    limit.check("192.0.2.1", "right")
    with pytest.raises(RateLimited):
        limit.check("192.0.2.1", "wrong")
    limit.count_failure("192.0.2.2")
    with pytest.raises(RateLimited):  # proven elsewhere only
        limit.check("192.0.2.2", "right")


def test_failures_are_forgotten() -> None:
    limit = FailureLimit(max_failures=1, forget_s=1e-9)
    limit.count_failure("192.0.2.1")
    limit.check("192.0.2.1", "another")


def test_what_is_remembered_is_bounded() -> None:
    limit = FailureLimit()
    for number in range(failure_limit.MAX_CLIENTS + 10):
        limit.count_failure(f"client {number}")
        limit.note_success(f"client {number}", "right")
    assert len(limit._failures) == failure_limit.MAX_CLIENTS
    assert len(limit._proven) == failure_limit.MAX_PROVEN
