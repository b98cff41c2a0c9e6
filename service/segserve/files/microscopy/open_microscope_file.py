"""Open a file of a microscope by its format."""

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from segserve.files.microscopy.czi import CziFile
from segserve.files.microscopy.lif import LifFile
from segserve.files.microscopy.microscope_file import MicroscopeFile
from segserve.files.microscopy.nd2 import Nd2File
from segserve.files.microscopy.ome_zarr import OmeZarrFile
from segserve.images import formats
from segserve.images.formats import ImageFormat
from segserve.temporary_files import translate_disk_full

# By what uploads of these formats are called.
MICROSCOPE_FORMATS: dict[str, ImageFormat] = {
    "czi": formats.CZI,
    "lif": formats.LIF,
    "nd2": formats.ND2,
    "ome_zarr": formats.OME_ZARR,
}
# Those that are one file, which may be an entry of a zip.
ENTRY_FORMATS = {formats.CZI, formats.LIF, formats.ND2}
# Of an OME-Zarr as a picture, of which no more than a part is unpacked at a time.
MAX_UNPACKED_MB = 100_000


def open_microscope_file(
    path: Path, image_format: ImageFormat, max_mb: int = MAX_UNPACKED_MB
) -> MicroscopeFile:
    """Open a file, which the caller closes. max_mb: limit for a zip, unpacked.

    Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency.
    """
    if image_format is formats.CZI:
        return CziFile(path)
    if image_format is formats.OME_ZARR:
        return OmeZarrFile(path, max_mb)
    return LifFile(path.open("rb")) if image_format is formats.LIF else Nd2File(path.open("rb"))


def open_microscope_entry(stream: BinaryIO, image_format: ImageFormat) -> MicroscopeFile:
    """Open a file that was taken out of an archive. It is copied, because a library wants its name. Raises as above."""
    with translate_disk_full(), tempfile.NamedTemporaryFile() as copy:
        stream.seek(0)
        shutil.copyfileobj(stream, copy)
        copy.flush()
        return open_microscope_file(Path(copy.name), image_format)  # it stays open when its name is gone
