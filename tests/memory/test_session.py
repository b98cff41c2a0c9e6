"""What a session keeps: enough to go on as if nothing had happened, and no more than that however long the video."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from safetensors.torch import load as read_tensors

from segserve.errors import BadInput
from segserve.masks.crop import to_mask
from segserve.memory.session import Session
from segserve.memory.state import dump, load
from segserve.memory.tracker import Tracker
from segserve.types import Object, Prompt, Select, UInt8
from tests.memory.reference import COUNT, HEIGHT, SIZE, WIDTH, box, disc, frames, network, points, session, track

SMALL = 64  # of the network's input, where what is computed does not matter
LONG = 64


def begun(image_size: int = SMALL, count: int = COUNT) -> Session:
    made = session(image_size=image_size, count=count)
    made.add(0, frames(count)[0], 4, points((50, 30, 1)))
    made.add(0, frames(count)[0], 2, box(20, 70, 60, 110))
    return made


def same(one: dict[int, Object], other: dict[int, Object]) -> bool:
    return list(one) == list(other) and all(
        one[key].score == other[key].score and np.array_equal(to_mask(one[key].crop), to_mask(other[key].crop))
        for key in one
    )


def continued(found: Session) -> tuple[list[dict[int, Object]], bytes]:
    """Forward over a correction to the end, then backward: what is answered, and the state at the end."""
    answers = []
    for frame in [*range(COUNT), *range(3, -1, -1)]:
        reverse = len(answers) >= COUNT
        answers.append(found.track(frame, frames()[frame], reverse=reverse))
        if frame == 5:
            found.add(5, frames()[5], 4, points((90, 60, 0)))
            found.add(5, frames()[5], 9, disc(60, 90, 20))
    return answers, dump(found)


def test_it_goes_on_from_any_frame_as_if_nothing_had_happened() -> None:
    undisturbed, end = continued(begun())

    class Interrupted(Session):
        """Put away and taken out again before every frame and every prompt."""

    def reloaded(found: Session) -> Session:
        state = dump(found)
        again = load(Tracker(network(image_size=SMALL)), state)
        assert dump(again) == state
        return again

    found, answers = reloaded(begun()), []
    for frame in [*range(COUNT), *range(3, -1, -1)]:
        reverse = len(answers) >= COUNT
        answers.append(found.track(frame, frames()[frame], reverse=reverse))
        found = reloaded(found)
        if frame == 5:
            found.add(5, frames()[5], 4, points((90, 60, 0)))
            found = reloaded(found)
            found.add(5, frames()[5], 9, disc(60, 90, 20))
            found = reloaded(found)
    assert all(same(*pair) for pair in zip(undisturbed, answers, strict=True))
    assert dump(found) == end
