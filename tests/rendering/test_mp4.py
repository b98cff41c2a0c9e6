"""Overlay videos (MP4): what players get, while the video is made."""

import io
import itertools
import tracemalloc
from collections.abc import Iterator

import av
import numpy as np
import pytest

from segserve.rendering.mp4 import MAX_SIDE_PX, encode_mp4
from segserve.types import UInt8

MAX_LOSS = 12  # levels by which H.264 may change a flat area


def draw_frames(count: int, height: int = 48, width: int = 64) -> Iterator[UInt8]:
    """Draw frames in which red grows and green falls; blue tells the halves apart."""
    for index in range(count):
        values = np.zeros((height, width, 3), np.uint8)
        level = 2 * (index % 80)
        values[..., 0], values[..., 1] = 40 + level, 200 - level
        values[:, width // 2 :, 2] = 180
        yield values


def decode(data: bytes) -> list[UInt8]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 65), (1, 3)])
def test_every_frame_is_encoded_in_its_colours(height: int, width: int) -> None:
    decoded = decode(b"".join(encode_mp4(draw_frames(70, height, width), 25)))
    assert len(decoded) == 70
    assert decoded[0].shape == (height + height % 2, width + width % 2, 3)
    if height > 16:
        for drawn, shown in zip(draw_frames(70, height, width), decoded, strict=True):
            for column in (8, width - 8):
                difference = shown[height // 2, column].astype(int) - drawn[height // 2, column]
                assert np.abs(difference).max() <= MAX_LOSS


def test_the_format_is_the_one_that_browsers_play() -> None:
    data = b"".join(encode_mp4(draw_frames(40), 29.97))
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(29.97, rel=1e-4)
    assert data.index(b"moov") < data.index(b"moof") < data.index(b"mdat"), "fragments after an empty header"
    with av.open(io.BytesIO(b"".join(encode_mp4(draw_frames(5), None)))) as container:
        assert float(container.streams.video[0].average_rate) == 10


def test_a_part_can_be_played_before_the_rest_is_made() -> None:
    read = 0

    def count_frames() -> Iterator[UInt8]:
        nonlocal read
        for values in draw_frames(10_000):
            read += 1
            yield values

    data = b"".join(itertools.islice(encode_mp4(count_frames(), 25), 100))
    assert read <= 101
    assert len(decode(data)) >= 30


def test_large_frames_are_scaled_down() -> None:
    decoded = decode(b"".join(encode_mp4(draw_frames(2, 30, 2 * MAX_SIDE_PX), 10)))
    assert decoded[0].shape in {(14, MAX_SIDE_PX, 3), (16, MAX_SIDE_PX, 3)}


def test_memory_does_not_grow_with_the_number_of_frames() -> None:
    peaks = []
    for count in (60, 600):
        tracemalloc.start()
        for _ in encode_mp4(draw_frames(count, 240, 320), 25):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
