"""One frame of a DICOM file as a picture, shown as a viewer shows it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.image_file import Frame
from segserve.files.dicom.read_header import HeaderCutShort, NotAnImage
from segserve.files.dicom.scan_files import read_entry
from segserve.files.dicom.stored_frames import StoredFrames, colours_to_8_bits, decoding_bytes
from segserve.images.image_source import ImageSource, check_page, check_size
from segserve.images.sandboxed.whole_image import make_source
from segserve.types import Size

# Of shades that are computed in float64, for each pixel.
SHADING_BYTES = 32
# Of a gzip file. All frames are unpacked for the one that is shown.
MAX_UNPACKED_MB = 2000


def open_dicom_picture(path: Path, page: int, max_pixels: int) -> ImageSource:
    """Open frame `page`, from 0, of a DICOM file: 8 bits, grayscale or RGB.

    Grayscale is that of a viewer: rescaled, shown by the first window or VOI table, inverted where it is MONOCHROME1.
    Without either, the frame's minimum is black and its maximum white; 8-bit values stay. Raises BadInput, TooLarge,
    UnsupportedFormat.
    """
    entries = DicomEntries(path, MAX_UNPACKED_MB)
    frames = list_frames(entries)
    check_page(page, len(frames))
    frame = frames[page]
    size, pixels = Size(*frame.size), frame.file.pixels
    check_size(size.width, size.height, max_pixels)
    stored = StoredFrames(entries, is_claimed=True)

    def decode() -> tuple[NDArray[Any], bool]:
        values = stored.read(frame)
        shades = colours_to_8_bits(values, frame) if values.ndim == 3 else show(values, frame)
        stored.close()
        return shades, False

    return make_source(
        "DICOM",
        size,
        3 if pixels.is_colour else 1,
        np.uint8,
        decode,
        bytes_per_pixel=SHADING_BYTES,
        fixed_bytes=decoding_bytes(pixels),
        pages=len(frames),
    )


def list_frames(entries: DicomEntries) -> Sequence[Frame]:
    """Return the frames of the one file, in its own order; a mosaic whole."""
    try:
        header = read_entry(entries, 0)
    except NotAnImage as reason:
        raise UnsupportedFormat(
            f"The DICOM file is no image. {reason}", field="file", remedy="Send one that is."
        ) from None
    except HeaderCutShort as cut:
        raise BadInput(
            f"The file ends before its pixels, after {cut.at} bytes.",
            field="file",
            remedy="Copy it again from its source.",
        ) from None
    first = header.frames[0]
    if first.tile is None:
        return header.frames
    pixels = first.file.pixels
    return [replace(first, tile=None, size=(pixels.rows, pixels.columns))]


def show(values: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Return the shades of one frame."""
    pixels, shading = frame.file.pixels, frame.shading
    if shading.window is not None:
        return shading.to_shades(values, (0.0, 1.0))
    if pixels.bits_stored <= 8 and not pixels.is_signed and shading.is_identity:
        return shading.to_shades(values, (0.0, float((1 << pixels.bits_stored) - 1)))
    shown = shading.to_modality(values, np.float64)
    return shading.to_shades(values, (float(np.nanmin(shown)), float(np.nanmax(shown))))
