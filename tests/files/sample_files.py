"""Create videos, zips, TIFFs and volumes with the libraries that also read them."""

import io
import locale
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import SimpleITK as sitk
from PIL import Image

from segserve.files.probe_file import probe_file
from segserve.types import FileLimits, FileOptions, FileRecord, UInt8

LIMITS = FileLimits(max_mb=20, max_frame_pixels=1 << 20, max_voxels=1 << 20)

CODECS = {"mp4": "libx264", "mov": "mpeg4", "webm": "libvpx-vp9", "avi": "mjpeg", "gif": "gif"}
PIXELS = {"mjpeg": "yuvj420p", "gif": "rgb8"}


def probe(path: Path, limits: FileLimits = LIMITS, options: FileOptions = FileOptions()) -> FileRecord:
    return probe_file(path, "0" * 64, limits, options)


def draw_frame(index: int, height: int = 48, width: int = 64) -> UInt8:
    """Return a frame with a bright square that moves, on a grey that tells the frames apart."""
    values = np.full((height, width, 3), 20 + 3 * index, np.uint8)
    values[10:30, 2 * index : 2 * index + 16] = 220
    return values


def write_video(path: Path, count: int = 20, *, rotate: int = 0) -> Path:
    codec = CODECS[path.suffix[1:]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        if codec == "libx264":
            # Key frames now and then, and frames out of order between them.
            stream.options = {"g": "7", "bf": "2"}
        for index in range(count):
            picture = av.VideoFrame.from_ndarray(draw_frame(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(10):
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            samples.rate = 16000
            container.mux(stream.encode(samples))
        container.mux(stream.encode())
    return path


def encode_png(values: UInt8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def encode_frame(index: int, height: int = 48, width: int = 64) -> bytes:
    """`draw_frame` as a PNG."""
    return encode_png(draw_frame(index, height, width))


def write_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in entries.items():
            out.writestr(name, content)
    return path


def make_volume(depth: int = 6) -> sitk.Image:
    z, y, x = np.mgrid[:depth, :20, :30]
    image = sitk.GetImageFromArray((100 * z + 10 * y + x).astype(np.int16))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-10.0, 5.0, 100.0))
    return image


def write_dicom_series(folder: Path, depth: int = 5, study: str = "1") -> dict[str, bytes]:
    """Write a DICOM series and return its files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    before = locale.setlocale(locale.LC_ALL)
    whole = make_volume(depth)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(depth):
        part = whole[:, :, z]
        tags = {
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{study}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.{study}.{z + 1}",
            "0020|0032": f"-10\\5\\{100 + 2 * z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(z + 1),
            "0008|0060": "CT",
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{study}-{depth - z}.dcm"))
        writer.Execute(part)
    locale.setlocale(locale.LC_ALL, before)  # GDCM leaves the C locale
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(study)}


def write_empty_video(path: Path) -> Path:
    """Write a video stream without frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def write_growing_video(path: Path, count: int = 6) -> Path:
    """Write a video whose second half has larger frames than the container states."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(count):
            height, width = (48, 64) if index < count // 2 else (96, 128)
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 10)
            picture = av.VideoFrame.from_ndarray(draw_frame(index, height, width), format="rgb24")
            for packet in (*encoder.encode(picture), *encoder.encode()):
                packet.stream, packet.pts, packet.dts = stream, index, index
                packet.time_base = Fraction(1, 10)
                container.mux(packet)
    return path


def encode_gif(*sizes: tuple[int, int]) -> bytes:
    """Encode frames of these sizes (width, height), on a screen of the first frame's size."""
    word = struct.Struct("<HH")
    out = b"GIF89a" + word.pack(*sizes[0]) + b"\x80\0\0" + bytes([0, 0, 0, 255, 255, 255])
    for size in sizes:
        alone = io.BytesIO()
        Image.new("1", size, 1).convert("P").save(alone, "GIF")
        data = alone.getvalue()
        picture = data.index(b"\x2c\0\0\0\0" + word.pack(*size))
        out += b"\x21\xf9\4\0\x0a\0\0\0" + data[picture : picture + 9] + b"\0" + data[picture + 10 : -1]
    return out + b"\x3b"


def make_zip_of_many_entries(count: int) -> bytes:
    """Return a zip whose directory lists one empty entry `count` times."""
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w") as out:
        out.writestr("a.png", b"")
    data = one.getvalue()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    directory = data[at:end] * count
    # Zip64's end of the directory, its locator, and the end record that points there (APPNOTE 4.3.14 to 4.3.16).
    here = at + len(directory)
    tail = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), at)
    tail += struct.pack("<4sIQI", b"PK\6\7", 0, here, 1)
    tail += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + directory + tail


def encode_webp() -> bytes:
    out = io.BytesIO()
    Image.fromarray(draw_frame(0)).save(out, "WEBP", lossless=True)
    return out.getvalue()


def make_zip_without_name() -> bytes:
    """Return a zip whose one entry has an empty name."""
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w") as out:
        out.writestr("Q", b"x" * 200)
    data = bytearray(one.getvalue())
    del data[data.index(b"Q")]
    data[26:28] = b"\0\0"
    directory = data.index(b"PK\1\2")
    data[directory + 28 : directory + 30] = b"\0\0"
    del data[directory + 46]
    end = data.index(b"PK\5\6")
    struct.pack_into("<II", data, end + 12, end - directory, directory)
    return bytes(data)


def make_zip_with_broken_name() -> bytes:
    """Return a zip whose one entry has a name that is said to be UTF-8, and is not."""
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w") as out:
        out.writestr("\u00e9.png", b"x" * 200)
    return one.getvalue().replace("\u00e9".encode(), b"\xff\xff")


def make_zip_of_codec(method: int) -> bytes:
    """Return a zip of one picture that is said to be compressed by another method."""
    one = io.BytesIO()
    with zipfile.ZipFile(one, "w") as out:
        out.writestr("1.png", encode_frame(0))
    data = bytearray(one.getvalue())
    struct.pack_into("<H", data, 8, method)
    struct.pack_into("<H", data, data.index(b"PK\1\2") + 10, method)
    return bytes(data)
