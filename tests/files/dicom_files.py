"""Write DICOM files byte by byte, broken ones too (PS3.5, PS3.10)."""

import struct

EXPLICIT = b"1.2.840.10008.1.2.1"
ENCAPSULATED_RLE = b"1.2.840.10008.1.2.5"
JPEG_LOSSLESS = b"1.2.840.10008.1.2.4.70"


def encode_element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def encode_fragments(*fragments: bytes, end: bool = True) -> bytes:
    """Encode pixel data of an unknown length. The first fragment is the table of offsets."""
    out = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    for fragment in fragments:
        out += struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment
    return out + (struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if end else b"")


def encode_dicom(
    *,
    transfer_syntax: bytes = EXPLICIT,
    side: int = 16,
    z: int = 0,
    pixels: bytes | None = None,
    pixel_element: bytes | None = None,
    extra: bytes = b"",
) -> bytes:
    """Encode a slice of side x side, 16 bits.

    pixels: in place of all of them. pixel_element: in place of the element that holds them. extra: elements of
    groups 0x0008 to 0x0018.
    """
    pixels = bytes(side * side * 2) if pixels is None else pixels
    meta = (
        encode_element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.2")
        + encode_element(2, 3, b"UI", f"1.2.3.{z + 1}".encode())
        + encode_element(2, 0x10, b"UI", transfer_syntax)
    )
    meta = encode_element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    data = (
        encode_element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2")
        + encode_element(8, 0x18, b"UI", f"1.2.3.{z + 1}".encode())
        + encode_element(8, 0x60, b"CS", b"CT")
        + extra
        + encode_element(0x20, 0xD, b"UI", b"1.2.3")
        + encode_element(0x20, 0xE, b"UI", b"1.2.3.5")
        + encode_element(0x20, 0x32, b"DS", f"0\\0\\{z}".encode().ljust(6))
        + encode_element(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0 ")
        + encode_element(0x28, 2, b"US", struct.pack("<H", 1))
        + encode_element(0x28, 4, b"CS", b"MONOCHROME2 ")
        + encode_element(0x28, 0x10, b"US", struct.pack("<H", side))
        + encode_element(0x28, 0x11, b"US", struct.pack("<H", side))
        + encode_element(0x28, 0x30, b"DS", b"1\\1 ")
        + encode_element(0x28, 0x100, b"US", struct.pack("<H", 16))
        + encode_element(0x28, 0x101, b"US", struct.pack("<H", 16))
        + encode_element(0x28, 0x102, b"US", struct.pack("<H", 15))
        + encode_element(0x28, 0x103, b"US", b"\0\0")
    )
    data += encode_element(0x7FE0, 0x10, b"OW", pixels) if pixel_element is None else pixel_element
    return bytes(128) + b"DICM" + meta + data
