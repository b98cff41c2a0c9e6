"""A lone DICOM image is a picture, shown as a viewer shows it, through the images of the service."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from segserve.errors import BadInput, SegserveError, UnsupportedFormat
from segserve.types import ReadOptions, Size, UInt8
from tests.files.dicom.sample_dicom import SECONDARY, draw, encode, item, make_slice
from tests.images.folder_library import FolderLibrary, run_scenario

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
CT = (draw(1) - 1024).astype(np.int16)


def read_pictures(folder: Path, *pictures: tuple[bytes, int]) -> list[UInt8]:
    """Return what the service stores of (file, page)."""
    stored: list[UInt8] = []

    async def scenario(library: FolderLibrary) -> None:
        for data, page in pictures:
            record = await library.images.add("t", io.BytesIO(data), ReadOptions(page=page))
            assert record.size == Size(12, 16)
            stored.append(await library.images.read_pixels("t", record.image_id))

    run_scenario(folder, scenario)
    return stored


def test_pictures_are_those_of_a_viewer(tmp_path: Path) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -1024}
    windowed = encode(make_slice(draw(1), **window))
    windowed = b"II*\0" + bytes(124) + windowed[128:]  # a preamble that looks like TIFF
    inverted = encode(make_slice(draw(1), PhotometricInterpretation="MONOCHROME1", **window))
    plain = encode(make_slice(CT))
    table = make_slice(draw(0).astype(np.uint16), bits=12)
    table.VOILUTSequence = [
        item(LUTDescriptor=[256, 0, 8], LUTData=np.arange(255, -1, -1).astype("<u2").tobytes())
    ]
    colours = encode(make_slice(COLOURS, SOPClassUID=SECONDARY))
    frames = encode(make_slice(np.stack([COLOURS, 255 - COLOURS]), None, orientation=None, NumberOfFrames=2))
    shown = read_pictures(
        tmp_path,
        (windowed, 0),
        (inverted, 0),
        (plain, 0),
        (encode(table, ImplicitVRLittleEndian), 0),
        (colours, 0),
        (frames, 1),
        (gzip.compress(colours), 0),
    )
    expected = np.clip(np.rint((draw(1) - 1024.0 + 160) * 255 / 399), 0, 255)
    assert np.array_equal(shown[0][..., 0], expected)
    assert np.array_equal(shown[1][..., 0], 255 - expected)
    assert (shown[2].min(), shown[2].max()) == (0, 255)
    assert np.array_equal(shown[3][..., 0], 255 - np.minimum(draw(0), 255))
    assert np.array_equal(shown[4], COLOURS)
    assert np.array_equal(shown[5], 255 - COLOURS)
    assert np.array_equal(shown[6], COLOURS)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    report = make_slice(CT, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None)
    del report.PixelData
    whole = encode(make_slice(CT))
    refused: list[tuple[bytes, int, type[SegserveError], str]] = [
        (encode(report), 0, UnsupportedFormat, "no image"),
        (whole[:300], 0, BadInput, "ends before its pixels"),
        (whole[:-40], 0, BadInput, "ends early"),
        (whole, 1, BadInput, "no page 1"),
    ]

    async def scenario(library: FolderLibrary) -> None:
        for data, page, error, words in refused:
            with pytest.raises(error, match=words):
                await library.images.add("t", io.BytesIO(data), ReadOptions(page=page))

    run_scenario(tmp_path, scenario)
