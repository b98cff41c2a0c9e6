"""What the setups of many projects leave in memory is bounded."""

import asyncio

import pytest
from pydantic import ValidationError

from segserve.settings import Settings
from segserve.wire.frontends.label_studio.bodies import MAX_OPTIONS_CHARACTERS, SetupIn
from segserve.wire.frontends.label_studio.connections import (
    MAX_KEPT_CHARACTERS,
    PROJECT_CHARACTERS,
    Connections,
)


def test_the_projects_that_were_seen_last_are_kept() -> None:
    connections = Connections(Settings())

    async def connect_many() -> None:
        for number in range(2 * MAX_KEPT_CHARACTERS // PROJECT_CHARACTERS):
            await connections.add(SetupIn(project=f"{number}.1", hostname="http://127.0.0.1:1"))

    asyncio.run(connect_many())
    last = 2 * MAX_KEPT_CHARACTERS // PROJECT_CHARACTERS - 1
    assert connections.find_number(last)
    assert not connections.find_number(0)


@pytest.mark.parametrize("as_text", [False, True])
def test_extra_params_are_bounded_however_they_are_sent(as_text: bool) -> None:
    count = MAX_OPTIONS_CHARACTERS // 3 + 1
    value = (
        '{"params": {"a": [' + ",".join(["[]"] * count) + "]}}"
        if as_text
        else {"params": {"a": [[]] * count}}
    )
    with pytest.raises(ValidationError, match="characters"):
        SetupIn.model_validate({"project": "1", "extra_params": value})
