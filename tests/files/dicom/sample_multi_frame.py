"""Write enhanced multi-frame objects and Siemens mosaics."""

import struct
from typing import Any

import numpy as np

from tests.files.dicom.sample_dicom import AXIAL, encode, item, make_slice

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED = {
    "position": None,
    "orientation": None,
    "spacing": None,
    "SOPClassUID": ENHANCED_MR,
    "Modality": "MR",
}


def encode_enhanced(
    frames: list[tuple[np.ndarray, Any, dict[str, Any]]], orientation: tuple[float, ...] = AXIAL
) -> bytes:
    """Encode an enhanced object of (pixels, position, functional groups of the frame)."""
    made = make_slice(
        np.stack([pixels for pixels, _, _ in frames]), NumberOfFrames=len(frames), SliceThickness=None, **ENHANCED
    )  # fmt: skip
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[f"{v:.12f}"[:16] for v in orientation])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.7], SliceThickness=2)],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5)],
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10f}"[:16] for v in position])], **groups
        )
        for _, position, groups in frames
    ]
    return encode(made)


def encode_csa_header(version: int, **elements: list[str]) -> bytes:
    """Encode a CSA header: of version 2 begins with SV10."""
    out = (b"SV10\4\3\2\1" if version == 2 else b"") + struct.pack("<II", len(elements), 77)
    first = len(next(iter(elements.values())))
    for name, values in elements.items():
        out += struct.pack("<64si4s3i", name.encode(), 1, b"FD", 0, len(values), 77)
        for value in values:
            data = value.encode() + b"\0"
            length = len(data)
            lengths = (length + first, length, 77, length) if version == 1 else (length, length, 77, length)
            out += struct.pack("<4i", *lengths) + data + bytes(-length % 4)
    return out


def encode_mosaic(
    slices: list[np.ndarray], orientation: tuple[float, ...], position: Any, csa: bytes, number: int = 1
) -> bytes:
    """Encode a mosaic of slices whose first one begins at `position`."""
    side = int(np.ceil(np.sqrt(len(slices))))
    height, width = slices[0].shape
    tiled = np.zeros((side * height, side * width), np.int16)
    for index, pixels in enumerate(slices):
        y, x = index // side * height, index % side * width
        tiled[y : y + height, x : x + width] = pixels
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    stated = (
        np.array(position)
        - row * 0.7 * (side * width - width) / 2
        - column * 0.8 * (side * height - height) / 2
    )
    made = make_slice(
        tiled, stated, orientation=orientation, number=number, Modality="MR", SpacingBetweenSlices=3.6,
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
        AcquisitionTime=f"1010{number:02d}.0",
    )  # fmt: skip
    made.add_new((0x0029, 0x0010), "LO", "SIEMENS CSA HEADER")
    made.add_new((0x0029, 0x1010), "OB", csa)
    return encode(made)
