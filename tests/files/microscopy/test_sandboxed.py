"""Files of microscopes are read in the sandbox, as uploads and as entries of zips."""

import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pyczi = pytest.importorskip("pylibCZIrw.czi")
zarr = pytest.importorskip("zarr")

from PIL import Image

from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.sandboxed_image import open_in_process
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileKind, FileOptions, ReadOptions
from tests.files.microscopy.microscope_files import write_lif, write_nd2
from tests.files.microscopy.test_ome_zarr import write_image, zip_folder
from tests.files.sample_files import LIMITS
from tests.images.folder_library import FolderLibrary, run_scenario

RNG = np.random.default_rng(6)
COLOURS = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def readers() -> Iterator[FileReaders]:
    with ThreadPoolExecutor(1) as executor:
        sandbox = Sandbox(READER_MODULE)
        yield FileReaders(sandbox, LIMITS, timeout_s=60, memory_mb=0, executor=executor)
        sandbox.close()


def write_czi(path: Path) -> Path:
    with pyczi.create_czi(str(path)) as document:
        for number, values in enumerate(COLOURS):
            document.write(data=np.ascontiguousarray(values[:, :, ::-1]), plane={"T": number, "Z": 0, "C": 0})
    return path


def write_zarr(path: Path) -> Path:
    write_image(path.parent / "cells.zarr", COLOURS.transpose(0, 3, 1, 2), "tcyx", chunks=(1, 3, 16, 16))
    return zip_folder(path.parent / "cells.zarr", path)


def write(kind: str, path: Path) -> Path:
    match kind:
        case "lif":
            return write_lif(path, [("a", "tyxc", COLOURS)])
        case "nd2":
            return write_nd2(path, COLOURS, [("T", 3)], is_packed=True, channels=1)
        case "czi":
            return write_czi(path)
    return write_zarr(path)


def read_frames(readers: FileReaders, path: Path, kind: str, options: FileOptions) -> NDArray[Any]:
    frames = readers.open_frames(path, kind, options)
    values = np.stack([frames.read(index) for index in range(frames.count)])
    frames.close()
    return values


@pytest.mark.parametrize("kind", ["lif", "nd2", "czi", "ome_zarr"])
@pytest.mark.filterwarnings("ignore")
def test_uploads(tmp_path: Path, readers: FileReaders, kind: str) -> None:
    path = write(kind, tmp_path / "upload")
    record = readers.probe(path, "id")
    assert (record.format, record.count, len(record.contents)) == (kind, 3, 1)
    assert np.array_equal(read_frames(readers, path, kind, record.options), COLOURS)
    image = open_in_process(readers, path, 2, 10**6, 10**6)
    assert np.array_equal(image.source.read().values, COLOURS[2])
    image.close()

    async def scenario(library: FolderLibrary) -> None:
        added = await library.images.add("t", io.BytesIO(path.read_bytes()), ReadOptions(page=1))
        assert np.array_equal(await library.images.read_pixels("t", added.image_id), COLOURS[1])

    run_scenario(tmp_path / "library", scenario)


def test_entries_of_a_zip(tmp_path: Path, readers: FileReaders) -> None:
    with zipfile.ZipFile(tmp_path / "upload", "w") as out:
        for number, kind in enumerate(("lif", "nd2", "czi")):
            out.write(write(kind, tmp_path / kind), f"{number}.{kind}")
        picture = io.BytesIO()
        Image.fromarray(COLOURS[2]).save(picture, "PNG")
        out.writestr("3.png", picture.getvalue())
        out.writestr("4.nd2", (tmp_path / "nd2").read_bytes()[:-300])
    record = readers.probe(tmp_path / "upload", "id")
    assert (record.kind, record.format, record.count) == (FileKind.FRAMES, "zip", 4)
    assert [file.name for file in record.left_out.files] == ["4.nd2"]
    assert "Of 3 files only the first picture is taken: '0.lif' has 3" in record.contents[0].notes[0]
    frames = readers.open_frames(tmp_path / "upload", "zip", record.options, record.frame_index)
    for index, expected in enumerate((COLOURS[0], COLOURS[0], COLOURS[0], COLOURS[2])):
        assert np.array_equal(frames.read(index), expected)
    frames.close()
