"""The state of a session is enough to go on as if nothing had happened, and it does not grow with the video."""

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
from segserve.sam2_memory.session import Sam2Session, clean_answer
from segserve.sam2_memory.session_state import dump_session, load_session
from segserve.types import Prompt, SegmentedObject, Select
from tests.sam2_memory.reference import COUNT, SIZE, TINY, box, disc, frames, network, points, session

EDGE = 64  # of the network's input: small, because here it does not matter which masks come out
LONG_COUNT = 46
Answers = list[dict[int, SegmentedObject]]


def small_session(count: int = COUNT) -> Sam2Session:
    """Return a session that encodes each of the few frames once, however often it comes."""
    video = session(image_size=EDGE, count=count)
    cached: dict[bytes, Any] = {}
    encode = video.network.encode
    video.network.encode = lambda rgb: (
        cached.get(rgb.tobytes()) or cached.setdefault(rgb.tobytes(), encode(rgb))
    )
    return video


def prompted_session(count: int = COUNT) -> Sam2Session:
    video = small_session(count)
    video.add_prompt(0, frames()[0], 4, points((50, 30, 1)))
    video.add_prompt(0, frames()[0], 2, box(20, 70, 60, 110))
    return video


def track_both_ways(
    video: Sam2Session, after_each_step: Callable[[Sam2Session], Sam2Session]
) -> tuple[Answers, bytes]:
    """Track forward, with a correction and a new object on the way, then backward: every answer, and the last state."""
    answers = []
    for frame in range(2, COUNT):
        answers.append(video.track(frame, frames()[frame]))
        video = after_each_step(video)
        if frame == 5:
            video.add_prompt(5, frames()[5], 4, points((90, 60, 0)))
            video = after_each_step(video)
            video.add_prompt(5, frames()[5], 4, points((50, 60, 1)))
            video.add_prompt(5, frames()[5], 9, disc(60, 90, 20))
            video = after_each_step(video)
    for frame in range(2, -1, -1):
        answers.append(video.track(frame, frames()[frame], reverse=True))
        video = after_each_step(video)
    return answers, dump_session(video)


def reload(video: Sam2Session) -> Sam2Session:
    state = dump_session(video)
    again = load_session(video.network, state)
    assert dump_session(again) == state
    return again


def are_equal(first: dict[int, SegmentedObject], second: dict[int, SegmentedObject]) -> bool:
    return list(first) == list(second) and all(
        first[key].score == second[key].score
        and np.array_equal(to_mask(first[key].crop), to_mask(second[key].crop))
        for key in first
    )


def test_a_reloaded_session_goes_on_as_if_nothing_had_happened() -> None:
    undisturbed, end = track_both_ways(prompted_session(), lambda video: video)
    interrupted, other_end = track_both_ways(reload(prompted_session()), reload)
    assert all(are_equal(*pair) for pair in zip(undisturbed, interrupted, strict=True))
    assert other_end == end


def test_the_state_does_not_grow_with_the_video() -> None:
    video, sizes = prompted_session(count=LONG_COUNT), {}
    for frame in range(LONG_COUNT):
        video.track(frame, frames()[frame % COUNT])
        tensors = read_tensors(dump_session(video))
        sizes[frame] = len(tensors), sum(tensor.nbytes for tensor in tensors.values())
    reach = 16  # frames whose pointers are attended to
    assert len({sizes[frame] for frame in range(2 * reach - 1, LONG_COUNT)}) == 1
    pointers = 1 + 15 + 16  # of the prompted frame, of those after it, and of those up to the present frame
    memories, logits, clicks = 1 + 6 + 7, 1 + 1, 2
    assert sizes[LONG_COUNT - 1][0] == 2 * (pointers + memories + logits + clicks)


def test_the_state_does_not_grow_backward_and_no_frame_keeps_the_batch_it_was_in() -> None:
    video = small_session(LONG_COUNT)
    video.network.max_batch = 3
    for object_id, prompt in enumerate([points((50, 30, 1)), points((90, 80, 1)), box(20, 70, 60, 110)]):
        video.add_prompt(LONG_COUNT - 1, frames()[0], object_id, prompt)
    sizes = []
    for frame in range(LONG_COUNT - 1, 5, -1):
        video.track(frame, frames()[frame % COUNT], reverse=True)
        sizes.append(len(dump_session(video)))
    assert abs(sizes[-1] - sizes[31]) < 200, "only names differ: frame 9 is shorter than frame 10"
    for bank in video.banks.values():
        for memory in bank.tracked.values():
            assert memory.pointer.untyped_storage().nbytes() == memory.pointer.nbytes
            if memory.features is not None:
                assert memory.features.untyped_storage().nbytes() == memory.features.nbytes


def test_a_frame_attends_to_the_closest_of_many_prompted_frames() -> None:
    video = prompted_session()
    video.network.sam2.max_cond_frames_in_attn = 2
    try:
        limited = Sam2Session(video.network, SIZE, COUNT)
        for frame in (0, 2, 4, 6):
            limited.add_prompt(frame, frames()[frame], 1, points((50, 30 + 4 * frame, 1)))
        limited.track(0, frames()[0])
        context = limited.banks[1].build_context(5, limited.reach, reverse=False)
    finally:
        video.network.sam2.max_cond_frames_in_attn = -1
    assert [position for position, _ in context.memories] == [0, 0, 2, 4], (
        "and to those just before it like to any other frame"
    )


def test_a_frame_is_encoded_once_for_prompts_and_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    video, encoded = session(image_size=EDGE), []
    encode = video.network.encode
    monkeypatch.setattr(video.network, "encode", lambda rgb: encoded.append(1) or encode(rgb))
    video.add_prompt(3, frames()[3], 1, points((50, 42, 1)))
    video.add_prompt(3, frames()[3], 2, box(20, 70, 60, 110))
    video.track(3, frames()[3])
    assert len(encoded) == 1
    video.track(4, frames()[4])
    video.add_prompt(4, frames()[4], 1, points((90, 42, 0)))
    assert len(encoded) == 2


def test_a_prompted_frame_is_answered_without_encoding_it() -> None:
    video = prompted_session()
    clicked = video.add_prompt(0, frames()[0], 4, points((52, 30, 1)))
    video = reload(video)
    answered = video.track(0, frames()[0])
    assert list(answered) == [4, 2]
    assert are_equal({4: clicked}, {4: answered[4]})


def test_scores_are_those_of_the_chosen_masks() -> None:
    answered = prompted_session().track(1, frames()[1])
    assert all(0 < item.score < 1 for item in answered.values())
    video = session(image_size=EDGE)
    assert video.add_prompt(0, frames()[0], 1, disc(50, 30, 20)).score == 1
    assert video.add_prompt(0, frames()[0], 1, disc(-50, -50, 2)).score == 0


def test_bad_frames_and_prompts_are_refused_and_change_nothing() -> None:
    video, frame = prompted_session(), frames()[0]
    before = dump_session(video)
    click, mask = points((1, 1, 1)), np.zeros((4, 5), np.bool_)
    refused = {
        "There is no frame 9": (9, frame, 1, click),
        "of shape": (1, frame[:-1], 1, click),
        "is empty": (1, frame, 1, Prompt()),
        "4 x 5": (1, frame, 1, Prompt(mask=mask)),
        "Logits": (1, frame, 1, Prompt(logits=np.zeros((4, 4), np.float32))),
        "one mask": (1, frame, 1, click, Select.ALL),
    }
    for message, arguments in refused.items():
        with pytest.raises(BadInput, match=message):
            video.add_prompt(*arguments)
    with pytest.raises(BadInput, match="There is no frame -1"):
        video.track(-1, frame)
    assert dump_session(video) == before


def test_specks_are_cleaned_and_objects_in_two_parts_stay() -> None:
    logits = torch.full((32, 32), -4.0)
    logits[4:14, 4:14] = 3
    logits[8, 8] = -1  # a hole
    logits[20:26, 4:10] = 3  # the other side of a post
    logits[1, 30] = 3  # a speck
    cleaned = clean_answer(logits) > 0
    assert cleaned[8, 8]
    assert cleaned[20:26, 4:10].all()
    assert not cleaned[1, 30]
    assert not (clean_answer(torch.full((8, 8), -1.0)) > 0).any()


def test_a_broken_state_or_one_of_another_model_is_refused() -> None:
    state, own_network = dump_session(prompted_session()), Sam2VideoNetwork(network(image_size=EDGE))
    for broken in (b"", b"nothing", state[:-1], state.replace(b"count", b"tnuoc")):
        with pytest.raises(BadInput, match="not the state of a session"):
            load_session(own_network, broken)
    for other in (Sam2VideoNetwork(network(image_size=EDGE), model="b"), Sam2VideoNetwork(network(TINY))):
        with pytest.raises(BadInput, match="another model or image size"):
            load_session(other, state)
