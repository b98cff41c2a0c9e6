"""What a lease keeps is bounded."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from segserve.errors import TooLarge
from segserve.wire.frontends.nninteractive import lease as module
from segserve.wire.frontends.nninteractive.interactions import Interactions, SlicePrompt
from segserve.wire.frontends.nninteractive.lease import Lease, ObjectState
from segserve.wire.frontends.nninteractive.volume_mask import VolumeMask


def make_state(characters: int) -> ObjectState:
    text = "1" * (characters // 2)
    return ObjectState(
        Interactions(0, prompts={0: SlicePrompt(mask=text)}), VolumeMask((8, 16, 16), 0, {0: text})
    )


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Lease:
    monkeypatch.setattr(module, "MAX_STATE_BYTES", 100)
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 250)
    return Lease("starter", volume=cast(Any, SimpleNamespace()), state=make_state(0))


def test_earlier_states_give_way_to_later_ones(lease: Lease) -> None:
    for _ in range(5):
        lease.advance(make_state(100))
    assert lease.state is not None
    assert sum(state.text_bytes for state in (lease.state, *lease.past)) <= 250
    assert lease.go_back()
    assert not lease.go_back()


def test_a_state_of_too_many_runs_is_refused_and_the_former_one_stays(lease: Lease) -> None:
    former = lease.state
    with pytest.raises(TooLarge):
        lease.advance(make_state(102))
    assert lease.state is former
    assert not lease.past
