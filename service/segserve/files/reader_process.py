"""The sandboxed process that reads one uploaded file: the only place where files of these formats are parsed.

The service's side is `file_readers.py`. A request is `{"operation": ...}` with the CPU time that it may take. A reply
is `{"result": ...}` or `{"error": ...}`.
"""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tifffile

from segserve.errors import BadInput, SegserveError, TooLarge
from segserve.files.open_file import (
    open_frames,
    open_picture,
    open_volume,
    read_segments,
    read_source_series,
)
from segserve.files.picture_archive import PictureArchive
from segserve.files.probe_file import probe_file
from segserve.files.read_picture import SharedPicture
from segserve.sandbox.confine import Confinement, allow_cpu_time, claim_memory_by, confine
from segserve.sandbox.messages import CLAIM, Channel, ChannelClosed, Message
from segserve.sandbox.shared_pixels import write_pixels
from segserve.types import FileLimits, FileOptions, FrameIndex

# Modules that are imported before there is a file. Without one that is not installed reading raises MissingDependency.
OPTIONAL_MODULES = (
    "nibabel.nifti2",
    "nibabel.spm2analyze",
    "nibabel.freesurfer.mghformat",
    "av",
    "av.subtitles.stream",
    "imagecodecs._blosc",
    "imagecodecs._blosc2",
    "imagecodecs._lz4",
    "imagecodecs._zstd",
    "imagecodecs._zlib",
    "imagecodecs._deflate",
    "imagecodecs._jpeg8",
    "imagecodecs._jpegsof3",
    "imagecodecs._jpegls",
    "imagecodecs._jpeg2k",
    "imagecodecs._htj2k",
    "pydicom.pixels.decoders.base",
    "segserve.files.dicom.dicom_file",
    "segserve.files.dicom.segmentation_file",
)


def warm_up() -> None:
    """Import and initialise all that a reader needs at its first file, once for all processes. Starts no thread."""
    importlib.import_module("encodings.cp437")  # of names in zips
    for optional in OPTIONAL_MODULES:
        with suppress(ImportError):
            importlib.import_module(optional)
    with suppress(OSError, SegserveError), tempfile.TemporaryDirectory() as folder:
        limits = FileLimits(max_mb=1, max_frame_pixels=1 << 20, max_voxels=1 << 20)
        picture = Path(folder) / "picture.tif"
        tifffile.imwrite(picture, np.zeros((8, 8), np.uint16), compression="zlib")
        probe_file(picture, "", limits)


def serve(channel: Channel) -> None:
    """Answer requests about one file until the service closes the channel."""
    with suppress(ChannelClosed), ExitStack() as stack:
        first, _ = channel.receive_with_files()
        missing = confine(Confinement(**first))
        tempfile.tempdir = first["scratch"]
        channel.send({"missing": missing})
        claim_memory_by(partial(claim_memory, channel))
        reader = FileReader(Path(first["readable"]), stack)
        while True:
            request, files = channel.receive_with_files()
            with describe_errors(channel):
                allow_cpu_time(request["cpu_s"])
                channel.send({"result": reader.answer(request, files)})
            for file in files:
                os.close(file)


def claim_memory(channel: Channel, size: int) -> None:
    """Claim bytes from the service, and wait until they are free. The service ends this process to refuse them."""
    channel.send({CLAIM: size})
    channel.receive()


@contextmanager
def describe_errors(channel: Channel) -> Iterator[None]:
    """Send what the block raises as a reply. A library may raise anything for a damaged file."""
    try:
        yield
    except ChannelClosed:
        raise
    except SegserveError as error:
        channel.send({"error": error_to_json(error)})
    except MemoryError:
        too_large = TooLarge(
            "The file needs more memory than one may.",
            field="file",
            remedy="Send a smaller one, or ask the operator to raise SEGSERVE_READER_MEMORY_MB.",
        )
        channel.send({"error": error_to_json(too_large)})
    except Exception as unknown:
        bad_input = BadInput(
            "The file is damaged, or of a kind that is not read.",
            field="file",
            remedy="Open it in a viewer and save it again.",
        )
        channel.send(
            {"error": error_to_json(bad_input), "cause": f"{type(unknown).__name__}: {unknown}"[:300]}
        )


def error_to_json(error: SegserveError) -> dict[str, str | None]:
    return {
        "type": type(error).__name__,
        "message": error.message[:2000],
        "remedy": error.remedy[:2000],
        "field": error.field,
    }


def parse_limits(request: Message) -> tuple[FileLimits, FileOptions]:
    return FileLimits(**request["limits"]), FileOptions(**request["options"])


def parse_frame_index(raw: Message) -> FrameIndex:
    entries = raw["left_out_entries"]
    return FrameIndex(raw["decoded_count"], None if entries is None else tuple(map(tuple, entries)))


class FileReader:
    """`FileReader` answers the requests about one file."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path, self._stack = path, stack

    def answer(self, request: Message, files: list[int]) -> dict[str, Any]:
        """files: the descriptor that pixels are written to. Raises SegserveError, and what the libraries raise."""
        match request["operation"]:
            case "probe":
                limits, options = parse_limits(request)
                return asdict(probe_file(self._path, "", limits, options))
            case "open_frames":
                limits, options = parse_limits(request)
                self._frames = open_frames(
                    self._path, request["format"], limits, options, parse_frame_index(request["index"])
                )
                self._stack.callback(self._frames.close)
                return {"count": self._frames.count, "size": asdict(self._frames.size)}
            case "read_frame":
                write_pixels(files[0], self._frames.read(request["index"]))
                return {}
            case "open_image":
                max_pixels, max_banded = request["max_pixels"], request["max_banded_pixels"]
                source = open_picture(self._path, request["page"], max_pixels, max_banded)
                self._picture = SharedPicture(source)
                return self._picture.describe()
            case "read_image":
                return self._picture.read()
            case "start_bands":
                self._picture.start_bands()
                return {}
            case "read_band":
                return self._picture.read_band()
            case "write_pixels":
                write_pixels(files[0], self._picture.values)
                return {}
            case "open_volume":
                limits, options = parse_limits(request)
                opening = open_volume(self._path, request["format"], limits, options)
                self._volume = self._stack.enter_context(opening)
                geometry = self._volume.geometry
                header = geometry.nifti_header
                return {
                    **asdict(geometry),
                    "nifti_header": None if header is None else header.hex(),
                    "window": self._volume.window,
                }
            case "load_source_series":
                limits, options = parse_limits(request)
                self._source_series = read_source_series(self._path, limits, options)
                return {"answer_bytes": self._source_series.size}
            case "write_source_series":
                write_pixels(files[0], self._source_series)
                return {}
            case "load_segments":
                segments = read_segments(self._path, FileLimits(**request["limits"]))
                if segments is None:
                    return {"answer_bytes": 0}
                self._segment_places, self._segments = segments
                return {"answer_bytes": self._segment_places.size}
            case "write_segment_places":
                write_pixels(files[0], self._segment_places)
                return {}
            case "write_segments":
                write_pixels(files[0], self._segments)
                return {}
            case "load_voxels":
                self._voxels = self._volume.voxels()
                return {"shape": self._voxels.shape, "dtype": np.dtype(self._voxels.dtype).name}
            case "write_voxels":
                write_pixels(files[0], self._voxels)
                return {}
            case "open_archive":
                limits = FileLimits(**request["limits"])
                left_out = parse_frame_index(request["index"]).left_out_entries
                self._archive = PictureArchive(
                    self._path, limits.max_mb, limits.max_frame_pixels, left_out, has_named=True
                )
                self._stack.callback(self._archive.close)
                names = orjson.dumps([encodable(name) for name in self._archive.names])
                self._names = np.frombuffer(names, np.uint8)
                return {"names_bytes": self._names.size}
            case "write_names":
                write_pixels(files[0], self._names)
                return {}
            case "unpack":
                self._archive.unpack_to(files[0], request["index"], request["max_bytes"])
                return {}
        raise ValueError(request["operation"])


def encodable(name: str) -> str:
    """Return the name without halves of surrogate pairs, which are no Unicode."""
    return name.encode(errors="replace").decode()
