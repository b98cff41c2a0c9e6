"""Frames of a video are decoded in any order, and damaged or unsuitable videos are refused."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_frames
from segserve.types import FileKind, Size
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe

# Levels that a codec or a palette may change a flat square by.
MAX_CHANGE = 40


@pytest.mark.parametrize("suffix", sorted(sample_files.CODECS))
def test_frames_of_a_video_in_any_order(tmp_path: Path, suffix: str) -> None:
    path = sample_files.write_video(tmp_path / f"clip.{suffix}")
    record = probe(path)
    assert (record.kind, record.count, record.size) == (FileKind.VIDEO, 20, Size(48, 64))
    assert record.fps == pytest.approx(10, rel=0.01)
    frames = open_frames(path, detect_format(path), LIMITS)
    in_order = [frames.read(index) for index in range(20)]
    for index, values in enumerate(in_order):
        assert abs(int(values[40, 2].mean()) - int(sample_files.draw_frame(index)[40, 2, 0])) <= MAX_CHANGE
        assert abs(int(values[20, 2 * index + 8].mean()) - 220) <= MAX_CHANGE
    for index in (19, 0, 7, 6, 18, 3, 3, 12, *reversed(range(20)), 1, 0, 19):
        assert np.array_equal(frames.read(index), in_order[index])
    frames.close()


def test_a_truncated_video_is_refused(tmp_path: Path) -> None:
    for suffix in ("mp4", "avi"):
        data = sample_files.write_video(tmp_path / f"clip.{suffix}", 60).read_bytes()
        for share in (0.3, 0.7):
            path = tmp_path / "cut"
            path.write_bytes(data[: int(share * len(data))])
            with suppress(BadInput):  # some containers can be read up to where they are cut
                assert probe(path).count < 60


def test_a_file_with_sound_only_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no video in it"):
        probe(sample_files.write_sound(tmp_path / "sound.mp4"))
