"""Files of microscopes: LIF, ND2 and OME-Zarr, whose readers are our own."""

import io
import json
import zipfile
from collections.abc import Iterable
from contextlib import closing

import numpy as np

from segserve.files.detect_format import detect_format
from segserve.files.microscopy.microscope_file import MicroscopeStack, open_series_picture
from segserve.files.microscopy.open_microscope_file import MICROSCOPE_FORMATS, open_microscope_file
from segserve.types import FileOptions
from tests.files.microscopy.microscope_files import write_lif, write_nd2
from tests.fuzz.harnesses.harness import Harness, expect_refusals, scratch_folder, write_scratch

MAX_PIXELS, MAX_MB = 1 << 12, 1
IMAGES = np.arange(4 * 5 * 6 * 2, dtype=np.uint16).reshape(4, 5, 6, 2)


def read_microscope_file(data: bytes) -> None:
    """Open a file of a microscope as a picture and as a stack, and read the first image."""
    path = write_scratch("upload", data)
    with expect_refusals():
        file_format = detect_format(path)
        if file_format not in MICROSCOPE_FORMATS or file_format == "czi":
            return
        with closing(open_microscope_file(path, MICROSCOPE_FORMATS[file_format], MAX_MB)) as file:
            open_series_picture(file, 0, MAX_PIXELS, MAX_PIXELS).read()
            MicroscopeStack(file, FileOptions(), MAX_PIXELS).values(0)


def microscope_seeds() -> Iterable[bytes]:
    path = scratch_folder() / "seed"
    yield write_lif(path, [("a", "tcyx", IMAGES), ("b", "zyxc", IMAGES)]).read_bytes()
    yield write_lif(path, [("a", "lyxc", IMAGES)], is_long=False, tags=(1, 2)).read_bytes()
    for options in ({}, {"is_packed": True}, {"version": 2}):
        yield write_nd2(path, IMAGES, [("T", 2), ("P", 2)], **options).read_bytes()  # type: ignore[arg-type]
    yield from zarr_seeds()


def zarr_seeds() -> Iterable[bytes]:
    multiscales = [{"axes": [{"name": axis} for axis in "tyxc"], "datasets": [{"path": "0"}]}]
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": IMAGES.shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 5, 6, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    attributes = {"ome": {"multiscales": multiscales}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    chunks = {f"0/c/{number}/0/0/0": image.tobytes() for number, image in enumerate(IMAGES)}
    yield encode_zip({"zarr.json": group, "0/zarr.json": array}, chunks)
    old = {
        "zarr_format": 2,
        "shape": IMAGES.shape,
        "chunks": [2, 5, 6, 2],
        "dtype": "<u2",
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    yield encode_zip({".zattrs": {"multiscales": multiscales}, "0/.zarray": old}, {})


def encode_zip(metadata: dict[str, dict[str, object]], chunks: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, values in metadata.items():
            archive.writestr(name, json.dumps(values))
        for name, data in chunks.items():
            archive.writestr(name, data)
    return out.getvalue()


WORDS = (
    b"BytesInc",
    b"NumberOfElements",
    b"ImageDataSeq|0!",
    b"chunk_shape",
    b"null",
    b"-1",
    b"1e999",
    b"\xff" * 8,
)
HARNESSES = (Harness("microscopes", read_microscope_file, microscope_seeds, WORDS, 1 << 16),)
