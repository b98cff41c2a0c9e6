"""Create videos as recorders, editors and phones leave them, with PyAV."""

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from segserve.types import UInt8
from tests.files.sample_files import draw_frame

FPS = 25
COUNT = 40
# Later frames would be brighter than white.
MAX_DRAWN = 70
HIDDEN_FRAMES = {"auto-alt-ref": "1", "lag-in-frames": "16"}
# (suffix, encoder, pixel format, options of the encoder)
CLIPS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "H.264 with B-frames": ("mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "H.264 with open GOPs": ("mp4", "libx264", "yuv420p", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "H.264 with open GOPs in TS": ("ts", "libx264", "yuv420p", {"g": "8", "bf": "3", "x264-params": "open-gop=1"}),
    "H.264 with intra refresh": ("mp4", "libx264", "yuv420p", {"g": "10", "x264-params": "intra-refresh=1"}),
    "H.264 with intra refresh in TS": ("ts", "libx264", "yuv420p", {"g": "10", "x264-params": "intra-refresh=1"}),
    "H.264, interlaced": ("mp4", "libx264", "yuv420p", {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}),
    "H.264 of one key frame": ("mkv", "libx264", "yuv420p", {"g": "1000", "bf": "3"}),
    "H.264 in AVI": ("avi", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    "H.264 in FLV": ("flv", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    "H.264 in 3GP": ("3gp", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    "HEVC with open GOPs": ("mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=12:open-gop=1"}),
    "HEVC in Matroska": ("mkv", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=12:bframes=3"}),
    "MPEG-4 with B-frames": ("mp4", "mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "MPEG-4 with B-frames in AVI": ("avi", "mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "MPEG-2 in a program stream": ("mpg", "mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    "MPEG-2 in TS": ("ts", "mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    "MPEG-1": ("mpg", "mpeg1video", "yuv420p", {"g": "12", "bf": "2"}),
    "VP8 with frames that are not shown": ("webm", "libvpx", "yuv420p", {"g": "12", **HIDDEN_FRAMES}),
    "VP9 with frames that are not shown": ("webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", **HIDDEN_FRAMES}),
    "VP8 in Ogg": ("ogv", "libvpx", "yuv420p", {"g": "12"}),
    "AV1": ("mp4", "libsvtav1", "yuv420p", {"g": "12", "preset": "12"}),
    "WMV": ("wmv", "wmv2", "yuv420p", {"g": "12"}),
    "FLV": ("flv", "flv", "yuv420p", {"g": "12"}),
    "ProRes": ("mov", "prores_ks", "yuv422p10le", {}),
    "Motion JPEG": ("avi", "mjpeg", "yuvj420p", {}),
    "FFV1": ("mkv", "ffv1", "yuv444p", {}),
    "GIF": ("gif", "gif", "rgb8", {}),
}  # fmt: skip


def write_clip(path: Path, name: str, count: int = COUNT, *, has_noise: bool = False) -> Path:
    """Write `draw_frame`s as CLIPS says. Returns the path with its suffix. has_noise: makes their packets larger."""
    suffix, codec, _, _ = CLIPS[name]
    path = path.with_suffix(f".{suffix}")
    if codec == "libsvtav1":
        # As root, SVT-AV1 gives its process real-time priority. Every service that the tests start would inherit it,
        # and two busy ones leave the machine nothing.
        call = f"{__name__}._encode_clip(pathlib.Path({str(path)!r}), {name!r}, {count}, {has_noise})"
        code = f"import pathlib, {__name__}; {call}"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    else:
        _encode_clip(path, name, count, has_noise)
    return path


def _encode_clip(path: Path, name: str, count: int, has_noise: bool) -> None:
    _, codec, pixel_format, options = CLIPS[name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for index in range(count):
            values = draw_frame(index % MAX_DRAWN)
            if has_noise:
                values = values ^ np.random.default_rng(index).integers(0, 128, values.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def remux(source: Path, target: Path, change: Callable[[av.Packet], bool]) -> Path:
    """Copy the packets of a video for which `change` returns True, as it has changed them."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size and change(packet):
                packet.stream = stream
                new.mux(packet)
    return target


def cut_by_edit_list(source: Path, target: Path, first: int) -> Path:
    """Cut an MP4 as `ffmpeg -ss -c copy` does: frames from the key frame before `first` on, some of them not shown."""
    with av.open(str(source)) as old:
        keys = [packet.pts for packet in old.demux(video=0) if packet.size and packet.is_keyframe]
        begin = round(first / FPS / old.streams.video[0].time_base)
    key = max(pts for pts in keys if pts <= begin)

    def shift(packet: av.Packet) -> bool:
        if packet.pts < key and packet.dts < key:
            return False
        packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
        return True

    return remux(source, target, shift)


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write (a, b, c, d) into the header of an MP4's track."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    # After the name: version and flags, 5 words of times and ids, 2 reserved, 4 half words (ISO/IEC 14496-12, 8.3.2).
    begin = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, begin, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def decode_all(path: Path) -> list[UInt8]:
    """Return all frames as PyAV decodes them in order, without rotation. Packets that fail have none."""
    frames = []
    with av.open(str(path), metadata_errors="replace") as container:
        for packet in container.demux(video=0):
            try:
                frames += packet.decode()
            except av.FFmpegError:
                continue
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def decode_by_ffmpeg(path: Path, height: int, width: int) -> UInt8 | None:
    """Return the frames [N, H, W, 3] that the program `ffmpeg` decodes, each once; None where it is not installed."""
    if shutil.which("ffmpeg") is None:
        return None
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-vsync", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    output = subprocess.run([*command, "-"], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    return np.frombuffer(output, np.uint8).reshape(-1, height, width, 3)
