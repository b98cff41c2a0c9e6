"""Frames of a video are those that FFmpeg's decoder delivers, read in any order; what is damaged is refused or told."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_frames
from segserve.files.video import VideoFrames
from segserve.files.video_decoder import VideoDecoder
from segserve.types import FileKind, FileRecord, Size, UInt8
from tests.files import sample_files, video_files
from tests.files.sample_files import LIMITS, draw_frame, probe
from tests.files.video_files import CLIPS, COUNT, remux, write_clip

# Levels that a codec or a palette may change a flat square by.
MAX_CHANGE = 40
# FFmpeg's versions differ by these levels in the transforms of old codecs.
MAX_VERSION_CHANGE = 4


@contextmanager
def open_probed(path: Path, record: FileRecord) -> Iterator[VideoFrames]:
    """Open a video as a job does."""
    assert record.frame_index.decoded_count in (None, record.count)
    frames = open_frames(path, record.format, LIMITS, record.options, record.frame_index)
    assert isinstance(frames, VideoFrames)
    with closing(frames):
        yield frames


def check_frames(path: Path, expected: list[UInt8] | None = None) -> FileRecord:
    """Check the number and the pixels of all frames, in order and in any order. Returns the record.

    expected: the frames; None: what PyAV decodes from the first packet to the last.
    """
    record = probe(path)
    expected = video_files.decode_all(path) if expected is None else expected
    assert (record.kind, record.count) == (FileKind.VIDEO, len(expected))
    assert record.size == Size(*expected[0].shape[:2])
    with open_probed(path, record) as frames:
        assert frames.count == record.count
        for index, values in enumerate(expected):
            assert np.array_equal(frames.read(index), values)
    any_order = random.Random(0).sample(range(record.count), record.count)
    with open_probed(path, record) as frames:
        for index in (*any_order, record.count - 1, *reversed(range(record.count)), 0, record.count - 1):
            assert np.array_equal(frames.read(index), expected[index])
    by_ffmpeg = video_files.decode_by_ffmpeg(path, *expected[0].shape[:2])
    if by_ffmpeg is not None:
        assert len(by_ffmpeg) == len(expected)
        assert np.abs(by_ffmpeg.astype(int) - np.array(expected)).max() <= MAX_VERSION_CHANGE
    return record


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_the_decoder_in_any_order(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "clip", name)
    record = check_frames(path)
    assert record.count == COUNT
    assert record.fps == pytest.approx(video_files.FPS, rel=0.01)
    assert record.contents == (), "nothing to note"
    if name == "H.264 in AVI":
        assert record.frame_index.decoded_count == COUNT
    with open_probed(path, record) as frames:
        for index in range(20):
            values, drawn = frames.read(index), draw_frame(index)
            assert abs(int(values[40, 2].mean()) - int(drawn[40, 2, 0])) <= MAX_CHANGE
            assert abs(int(values[20, 2 * index + 8].mean()) - 220) <= MAX_CHANGE


def test_clips_are_what_their_names_say(tmp_path: Path) -> None:
    """The encoders may come to ignore an option."""

    def list_packets(name: str) -> list[av.Packet]:
        with av.open(str(write_clip(tmp_path / "clip", name))) as container:
            return [packet for packet in container.demux(video=0) if packet.size]

    open_gops = list_packets("H.264 with open GOPs")
    key = next(at for at, packet in enumerate(open_gops) if at and packet.is_keyframe)
    assert open_gops[key + 1].pts < open_gops[key].pts


@pytest.mark.parametrize(
    "name", ["H.264 with B-frames", "HEVC with open GOPs", "MPEG-4 with B-frames", "ProRes"]
)
@pytest.mark.parametrize("first", [5, 17, 26])
def test_an_edit_list_hides_frames(tmp_path: Path, name: str, first: int) -> None:
    whole = write_clip(tmp_path / "whole", name)
    cut = video_files.cut_by_edit_list(whole, tmp_path / f"cut{whole.suffix}", first)
    with av.open(str(cut)) as container:
        assert (
            any(packet.is_discard for packet in container.demux(video=0)) or name == "ProRes" or first == 26
        )
    record = check_frames(cut)
    assert (record.count, record.contents) == (COUNT - first, ())
    with open_probed(cut, record) as frames:
        assert abs(int(frames.read(0)[40, 2].mean()) - 20 - 3 * first) <= MAX_CHANGE


def test_frames_may_come_at_any_time(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "steady", "ProRes")

    def delay(packet: av.Packet) -> bool:
        packet.pts = packet.dts = packet.pts + packet.pts * packet.pts // 1000
        return True

    record = check_frames(remux(source, tmp_path / "vfr.mov", delay))
    assert (record.count, record.contents) == (COUNT, ())


def test_wrong_times_are_not_believed(tmp_path: Path) -> None:
    """Times of decoding instead of showing, as copying from AVI gives."""
    source = write_clip(tmp_path / "right", "H.264 with B-frames")

    def forget_order(packet: av.Packet) -> bool:
        packet.pts = packet.dts
        return True

    path = remux(source, tmp_path / "wrong.mp4", forget_order)
    record = check_frames(path)
    assert record.frame_index.decoded_count
    with closing(open_frames(path, "mp4", LIMITS)) as frames:
        assert frames.count == record.count, "known without the record too"


@pytest.mark.parametrize("name", ["H.264 with open GOPs in TS", "MPEG-2 in TS"])
def test_a_recording_may_begin_between_key_frames(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "clip", name)
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 3) :])
    record = check_frames(path)
    assert record.frame_index.decoded_count
    assert 10 < record.count < COUNT


def test_titles_may_be_in_any_encoding(tmp_path: Path) -> None:
    for suffix, codec in {"mp4": "mpeg4", "mkv": "mpeg4", "avi": "mpeg4"}.items():
        path = tmp_path / f"clip.{suffix}"
        with av.open(str(path), "w") as container:
            container.metadata["title"] = "Zellen im Gr\u00fcn"
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index), format="rgb24")))
            container.mux(stream.encode())
        assert "Gr\u00fcn".encode() in path.read_bytes()
        path.write_bytes(path.read_bytes().replace("Gr\u00fcn".encode(), "Gr\u00fcn ".encode("latin-1")))
        assert check_frames(path).count == 5


def test_a_comment_at_the_end_of_a_gif_is_no_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip", "GIF", 5)
    data = path.read_bytes()
    assert data[-1:] == b";"
    path.write_bytes(data[:-1] + b"\x21\xfe\x05cells\0;")
    assert check_frames(path).count == 5


MIRRORED: dict[tuple[int, int, int, int], Callable[[UInt8], UInt8]] = {
    (1, 0, 0, 1): lambda frame: frame,
    (-1, 0, 0, 1): lambda frame: frame[:, ::-1],
    (1, 0, 0, -1): lambda frame: frame[::-1],
    (-1, 0, 0, -1): lambda frame: np.rot90(frame, 2),
    (0, 1, -1, 0): lambda frame: np.rot90(frame, -1),
    (0, -1, 1, 0): np.rot90,
    (0, 1, 1, 0): lambda frame: frame.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda frame: np.rot90(frame.transpose(1, 0, 2), 2),
}


@pytest.mark.parametrize("matrix", MIRRORED)
def test_frames_are_turned_and_mirrored(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_clip(tmp_path / "clip", "MPEG-4 with B-frames", 3)
    expected = video_files.decode_all(path)
    video_files.set_display_matrix(path, matrix)
    check_frames(path, [MIRRORED[matrix](frame) for frame in expected])


def test_colours_of_interlaced_frames_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    values = np.zeros((48, 64, 3), np.uint8)
    values[::4, :, 0] = values[1::4, :, 0] = 255  # red lines, each as high as a value of colour
    with av.open(str(path), "w") as container:
        options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1", "qp": "1"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    assert decoded[0].interlaced_frame
    planes = [frame.to_ndarray() for frame in decoded]
    progressive = [av.VideoFrame.from_ndarray(plane, format="yuv420p") for plane in planes]
    check_frames(path, [frame.to_ndarray(format="rgb24") for frame in progressive])


def test_the_largest_picture_is_the_video(tmp_path: Path) -> None:
    """Players show a cover picture as such."""
    with pytest.raises(BadInput, match="no video in it"):
        probe(sample_files.write_sound(tmp_path / "sound.mp4"))


def test_heif_and_avif_are_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.heic"
    for brand in (b"heic", b"mif1", b"avif", b"avis", b"crx "):
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100))
        with pytest.raises(UnsupportedFormat, match="one picture"):
            detect_format(path)


def damage(path: Path, begin: float, content: Callable[[int], bytes], count: int = 1500) -> None:
    data = bytearray(path.read_bytes())
    at = int(begin * len(data))
    data[at : at + count] = content(count)
    path.write_bytes(data)


CONTENTS: dict[str, Callable[[int], bytes]] = {"zeros": bytes, "noise": random.Random(0).randbytes}
DAMAGED = [
    *("H.264 with B-frames", "H.264 of one key frame", "HEVC with open GOPs", "MPEG-4 with B-frames in AVI"),
    *("MPEG-2 in TS", "VP9 with frames that are not shown", "AV1", "ProRes", "WMV"),
]
TAKE_NOISE = {"VP9 with frames that are not shown", "AV1", "WMV"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_middle_is_refused_or_told_and_the_rest_is_read(
    tmp_path: Path, name: str, content: str
) -> None:
    path = write_clip(tmp_path / "clip", name, has_noise=True)
    damage(path, 0.5, CONTENTS[content])
    try:
        record = probe(path)
    except BadInput:
        return
    # Decoders of VP9, AV1 and WMV take any bytes for a picture.
    assert record.contents or (content == "noise" and name in TAKE_NOISE and record.count == COUNT)
    with open_probed(path, record) as frames:
        for index in range(record.count):
            frames.read(index)
        with pytest.raises(BadInput):
            frames.read(record.count)


@pytest.mark.parametrize("name", ["H.264 with B-frames", "MPEG-4 with B-frames"])
def test_damage_that_the_decoder_conceals_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    # In several threads it depends on chance whether FFmpeg marks a frame.
    monkeypatch.setattr(
        VideoDecoder, "is_parallel", property(lambda _: False, lambda *_: None), raising=False
    )
    path = write_clip(tmp_path / "clip", name, has_noise=True)
    assert not probe(path).contents
    with av.open(str(path)) as container:
        # Of other packets noise may be taken for a picture.
        damaged = [packet for packet in container.demux(video=0) if packet.size and packet.is_keyframe][-1]
        position, size = damaged.pos, damaged.size
    data = bytearray(path.read_bytes())
    for at in range(position + size // 3, position + size // 3 + 12):
        data[at] ^= 0x55
    path.write_bytes(bytes(data))
    record = probe(path)
    assert record.count == COUNT
    assert "may be wrong" in record.contents[0].notes[0]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "avi", "mkv", "webm"])
def test_a_video_that_is_cut_short_is_refused_or_told(tmp_path: Path, suffix: str) -> None:
    name = {"webm": "VP9 with frames that are not shown", "mkv": "FFV1"}.get(suffix, "MPEG-4 with B-frames")
    path = write_clip(tmp_path / "clip", name)
    if suffix in ("mov", "avi"):
        path = remux(path, tmp_path / f"copy.{suffix}", lambda _: True)
    data = path.read_bytes()
    for share in (0.3, 0.7, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        said = f"{int(share * len(data))} of {len(data)} bytes"
        if suffix in ("mkv", "webm", "avi"):
            with suppress(BadInput):
                assert said in probe(path).contents[0].notes[-1]
        else:
            with pytest.raises(BadInput, match=rf"cut short.*(has \d+ of \d+ bytes|of its {COUNT} frames)"):
                probe(path)


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Frame 3 is 128 x 96"):
        probe(sample_files.write_growing_video(tmp_path / "clip.mkv"))


def test_a_long_video_is_checked_in_places(tmp_path: Path) -> None:
    """What is not as the packets promise is found without decoding all of it."""
    right = write_clip(tmp_path / "right", "H.264 with B-frames", 200)

    def forget_order_of_end(packet: av.Packet) -> bool:
        if packet.dts >= 12800 * 6:  # the last 50 frames
            packet.pts = packet.dts
        return True

    wrong = remux(right, tmp_path / "wrong.mp4", forget_order_of_end)
    with mock.patch("segserve.files.check_video.MAX_CHECKED_PIXELS", 40 * 64 * 48):
        assert not probe(right).frame_index.decoded_count
        assert check_frames(wrong).frame_index.decoded_count
    lost = tmp_path / "lost.mp4"
    lost.write_bytes(right.read_bytes())
    damage(lost, 0.41, bytes, 600)
    with mock.patch("segserve.files.check_video.MAX_CHECKED_PIXELS", 40 * 64 * 48):
        assert probe(lost).contents[0].notes, "a lost block is found by its zeros"


def test_seeking_decodes_few_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip", "H.264 with open GOPs", 300)
    with closing(VideoFrames(path, "mp4", 1 << 20)) as frames:
        decoded = 0
        decode = frames._decoder.frames

        def count_frames() -> Iterator[tuple[int, av.VideoFrame]]:
            nonlocal decoded
            for item in decode():
                decoded += 1
                yield item

        with mock.patch.object(frames._decoder, "frames", count_frames):
            for index in (250, 30, 180, 100):
                frames.read(index)
        assert decoded < 4 * 60
