"""Recognise DICOM by its content, without reading it: one file, or a zip with such files."""

import struct
from contextlib import suppress
from pathlib import Path, PurePosixPath

from segserve.files.zip_archive import PICTURE_SUFFIXES, ZIP_ERRORS, BoundedZip
from segserve.images.formats import DICOM

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
# Bytes of a file's beginning that show whether it is DICOM.
HEAD_BYTES = PREAMBLE_BYTES + len(MAGIC)
# Elements of group 0x0008 that begin a data set without a preamble, and the representations that they may have.
FIRST_ELEMENTS = {0x0000, 0x0001, 0x0005, 0x0006, 0x0008, 0x0010, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018}
FIRST_VRS = {b"UL", b"CS", b"SQ", b"DA", b"TM", b"UI", b"LO"}
# Suffixes of pictures in other formats.
OTHER_SUFFIXES = PICTURE_SUFFIXES - set(DICOM.suffixes)
# Entries of a zip that are looked into whatever their name; later ones only if it is not that of a picture.
MAX_SEARCHED_ENTRIES = 64


def is_dicom(head: bytes) -> bool:
    """Return whether a file that begins with `head`, HEAD_BYTES of it, is DICOM: with the preamble or without."""
    if head[PREAMBLE_BYTES:HEAD_BYTES] == MAGIC:
        return True
    if len(head) < 12:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(order + "HHI", head)
        has_vr = head[4:6] in FIRST_VRS
        # Without a representation the first length is small: of a group's length, a character set or an UID.
        if group == 8 and element in FIRST_ELEMENTS and (has_vr or 0 < length <= 64):
            return True
        if group == 2 and element in (0, 1, 2, 16) and has_vr:
            return True
    return False


def has_dicom(path: Path) -> bool:
    """Return whether a file of a zip is DICOM. On a patient's CD a viewer's files may come first. Raises TooLarge."""
    try:
        with BoundedZip(path) as archive:
            for number, info in enumerate(archive.infolist()):
                is_picture = PurePosixPath(info.filename).suffix.lower() in OTHER_SUFFIXES
                if info.is_dir() or (is_picture and number >= MAX_SEARCHED_ENTRIES):
                    continue
                with suppress(*ZIP_ERRORS), archive.open(info) as entry:  # one may be damaged
                    if is_dicom(entry.read(HEAD_BYTES)):
                        return True
    except ZIP_ERRORS:
        return False
    return False
