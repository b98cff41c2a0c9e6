"""What a session keeps: enough to go on as if nothing had happened, and no more than that however long the video."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from safetensors.torch import load as read_tensors

from segserve.errors import BadInput
from segserve.masks.crop import to_mask
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.sam2_memory.session_state import dump_session, load_session
from segserve.types import Prompt, SegmentedObject, Select
from tests.sam2_memory.reference import COUNT, SIZE, TINY, box, disc, frames, network, points, session

EDGE = 64  # of the network's input, where it does not matter what is found
LONG = 46
Answers = list[dict[int, SegmentedObject]]


def small(count: int = COUNT) -> Sam2Session:
    """It encodes each of the few frames once, however often they come."""
    made = session(image_size=EDGE, count=count)
    known: dict[bytes, Any] = {}
    encode = made.tracker.encode
    made.tracker.encode = lambda rgb: known.get(rgb.tobytes()) or known.setdefault(rgb.tobytes(), encode(rgb))
    return made


def begun(count: int = COUNT) -> Sam2Session:
    made = small(count)
    made.add_prompt(0, frames()[0], 4, points((50, 30, 1)))
    made.add_prompt(0, frames()[0], 2, box(20, 70, 60, 110))
    return made


def whole_way(found: Sam2Session, meanwhile: Callable[[Sam2Session], Sam2Session]) -> tuple[Answers, bytes]:
    """Forward, with a correction and a new object on the way, then backward: every answer, and the state at last."""
    answers = []
    for frame in range(2, COUNT):
        answers.append(found.track(frame, frames()[frame]))
        found = meanwhile(found)
        if frame == 5:
            found.add_prompt(5, frames()[5], 4, points((90, 60, 0)))
            found = meanwhile(found)
            found.add_prompt(5, frames()[5], 4, points((50, 60, 1)))
            found.add_prompt(5, frames()[5], 9, disc(60, 90, 20))
            found = meanwhile(found)
    for frame in range(2, -1, -1):
        answers.append(found.track(frame, frames()[frame], reverse=True))
        found = meanwhile(found)
    return answers, dump_session(found)


def reloaded(found: Sam2Session) -> Sam2Session:
    state = dump_session(found)
    again = load_session(found.tracker, state)
    assert dump_session(again) == state
    return again


def same(one: dict[int, SegmentedObject], other: dict[int, SegmentedObject]) -> bool:
    return list(one) == list(other) and all(
        one[key].score == other[key].score
        and np.array_equal(to_mask(one[key].crop), to_mask(other[key].crop))
        for key in one
    )


def test_it_goes_on_from_any_frame_as_if_nothing_had_happened() -> None:
    undisturbed, end = whole_way(begun(), lambda found: found)
    interrupted, other_end = whole_way(reloaded(begun()), reloaded)
    assert all(same(*pair) for pair in zip(undisturbed, interrupted, strict=True))
    assert other_end == end


def test_the_state_does_not_grow_with_the_video() -> None:
    found, sizes = begun(count=LONG), {}
    for frame in range(LONG):
        found.track(frame, frames()[frame % COUNT])
        tensors = read_tensors(dump_session(found))
        sizes[frame] = len(tensors), sum(tensor.nbytes for tensor in tensors.values())
    reach = 16  # frames whose pointers are seen
    assert len({sizes[frame] for frame in range(2 * reach - 1, LONG)}) == 1
    pointers = 1 + 15 + 16  # of the prompted frame, after it, and up to the frame at hand
    memories, logits, clicks = 1 + 6 + 7, 1 + 1, 2
    assert sizes[LONG - 1][0] == 2 * (pointers + memories + logits + clicks)


def test_backward_it_does_not_grow_either_nor_do_single_frames_live_on_by_the_batch_they_were_in() -> None:
    found = small(LONG)
    found.tracker.max_batch = 3
    for object_id, prompt in enumerate([points((50, 30, 1)), points((90, 80, 1)), box(20, 70, 60, 110)]):
        found.add_prompt(LONG - 1, frames()[0], object_id, prompt)
    sizes = []
    for frame in range(LONG - 1, 5, -1):
        found.track(frame, frames()[frame % COUNT], reverse=True)
        sizes.append(len(dump_session(found)))
    assert abs(sizes[-1] - sizes[31]) < 200, "of names alone: frame 9 is shorter than frame 10"
    for bank in found.banks.values():
        for memory in bank.tracked.values():
            assert memory.pointer.untyped_storage().nbytes() == memory.pointer.nbytes
            if memory.features is not None:
                assert memory.features.untyped_storage().nbytes() == memory.features.nbytes


def test_of_many_prompted_frames_the_closest_are_looked_back_at() -> None:
    found = begun()
    found.tracker.network.max_cond_frames_in_attn = 2
    try:
        limited = Sam2Session(found.tracker, SIZE, COUNT)
        for frame in (0, 2, 4, 6):
            limited.add_prompt(frame, frames()[frame], 1, points((50, 30 + 4 * frame, 1)))
        limited.track(0, frames()[0])
        context = limited.banks[1].build_context(5, limited.reach, reverse=False)
    finally:
        found.tracker.network.max_cond_frames_in_attn = -1
    assert [place for place, _ in context.memories] == [0, 0, 2, 4], (
        "and those that were just before as any other"
    )


def test_a_frame_is_encoded_once_for_prompts_and_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    found, encoded = session(image_size=EDGE), []
    encode = found.tracker.encode
    monkeypatch.setattr(found.tracker, "encode", lambda rgb: encoded.append(1) or encode(rgb))
    found.add_prompt(3, frames()[3], 1, points((50, 42, 1)))
    found.add_prompt(3, frames()[3], 2, box(20, 70, 60, 110))
    found.track(3, frames()[3])
    assert len(encoded) == 1
    found.track(4, frames()[4])
    found.add_prompt(4, frames()[4], 1, points((90, 42, 0)))
    assert len(encoded) == 2


def test_a_prompted_frame_is_answered_without_a_look_at_it() -> None:
    found = begun()
    clicked = found.add_prompt(0, frames()[0], 4, points((52, 30, 1)))
    found = reloaded(found)
    answered = found.track(0, frames()[0])
    assert list(answered) == [4, 2]
    assert same({4: clicked}, {4: answered[4]})


def test_scores_are_those_of_the_chosen_masks() -> None:
    answered = begun().track(1, frames()[1])
    assert all(0 < item.score < 1 for item in answered.values())
    found = session(image_size=EDGE)
    assert found.add_prompt(0, frames()[0], 1, disc(50, 30, 20)).score == 1
    assert found.add_prompt(0, frames()[0], 1, disc(-50, -50, 2)).score == 0


def test_what_cannot_be_followed_is_refused_and_leaves_no_trace() -> None:
    found, frame = begun(), frames()[0]
    before = dump_session(found)
    click, mask = points((1, 1, 1)), np.zeros((4, 5), np.bool_)
    refused = {
        "There is no frame 9": (9, frame, 1, click),
        "of shape": (1, frame[:-1], 1, click),
        "is empty": (1, frame, 1, Prompt()),
        "4 x 5": (1, frame, 1, Prompt(mask=mask)),
        "Logits": (1, frame, 1, Prompt(logits=np.zeros((4, 4), np.float32))),
        "one mask": (1, frame, 1, click, Select.ALL),
    }
    for message, given in refused.items():
        with pytest.raises(BadInput, match=message):
            found.add_prompt(*given)
    with pytest.raises(BadInput, match="There is no frame -1"):
        found.track(-1, frame)
    assert dump_session(found) == before


def test_a_state_that_is_none_or_of_another_model_is_refused() -> None:
    state, tracker = dump_session(begun()), Sam2VideoNetwork(network(image_size=EDGE))
    for broken in (b"", b"nothing", state[:-1], state.replace(b"count", b"tnuoc")):
        with pytest.raises(BadInput, match="not the state of a session"):
            load_session(tracker, broken)
    for other in (Sam2VideoNetwork(network(image_size=EDGE), model="b"), Sam2VideoNetwork(network(TINY))):
        with pytest.raises(BadInput, match="another model or image size"):
            load_session(other, state)
