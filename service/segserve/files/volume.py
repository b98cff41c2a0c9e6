"""Volumes: NIfTI, NRRD, MetaImage, and a zip of a DICOM series, by SimpleITK.

ITK's headers may name other files to read the voxels from; such files are refused before ITK sees them.
"""

import gzip
import locale
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.files.zip_archive import BoundedZip, check_entries, wrap_zip_errors
from segserve.temporary_files import translate_disk_full
from segserve.types import Size

SUFFIX_BY_FORMAT = {"nifti": ".nii", "nifti.gz": ".nii.gz", "nrrd": ".nrrd", "metaimage": ".mha"}
NIFTI_MAGIC = {b"n+1\0", b"n+2\0"}  # the voxels follow the header; "ni1" has them in a second file
MAX_HEADER_BYTES = 65_536  # bytes in which NRRD's and MetaImage's headers must end
DICOM_MAGIC = b"DICM"  # after 128 bytes


@dataclass(frozen=True)
class VolumeGeometry:
    """size, spacing (millimetres) and origin in ITK's order, x first; direction as 9 numbers, row by row."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def slices(self) -> int:
        return self.size[2]

    @property
    def plane(self) -> Size:
        return Size(self.size[1], self.size[0])


def import_simpleitk() -> Any:
    """Raises MissingDependency."""
    try:
        import SimpleITK
    except ImportError:
        raise MissingDependency("SimpleITK", "volumes", "Reading a volume") from None
    return SimpleITK


@contextmanager
def wrap_itk_errors() -> Iterator[None]:
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise BadInput(
            f"The volume cannot be read: {reason}.",
            field="file",
            remedy="Is it complete? Open it in a viewer and save it again.",
        ) from None
    finally:
        locale.setlocale(locale.LC_ALL, before)  # GDCM sets C, in which Python reads text files as ASCII


def detect_volume_format(file: BinaryIO) -> str | None:
    """A key of SUFFIXES, by the file's content. Raises BadInput for a header that names other files."""
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    if head[:2] == b"\x1f\x8b":
        file.seek(0)
        try:
            with gzip.open(file) as unpacked:
                inside = unpacked.read(348)
        except (OSError, EOFError, zlib.error):
            return None
        return "nifti.gz" if inside[344:348] in NIFTI_MAGIC or inside[4:8] in NIFTI_MAGIC else None
    if head[344:348] in NIFTI_MAGIC or head[4:8] in NIFTI_MAGIC:
        return "nifti"
    if head.startswith(b"NRRD"):
        header, end, _ = head.partition(b"\n\n")
        check_voxels_inside(
            bool(end) and not re.search(rb"(?im)^\s*data ?file\s*:", header.replace(b"\r", b"\n"))
        )
        return "nrrd"
    if re.match(rb"\s*(ObjectType|NDims)\s*=", head):
        check_voxels_inside(is_self_contained(head))
        return "metaimage"
    return None


def is_self_contained(head: bytes) -> bool:
    """Whether a MetaImage's header ends within `head`, by saying that the voxels follow. ITK takes other separators
    too, and the first of several ElementDataFile: lines are only what the format's description shows."""
    for line in head.replace(b"\r", b"\n").split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or not re.fullmatch(rb"\s*\w+\s*", name):
            return False
        if name.strip().lower() == b"elementdatafile":
            return name.strip() == b"ElementDataFile" and value.strip() == b"LOCAL"
    return False


def check_voxels_inside(inside: bool) -> None:
    if not inside:
        raise BadInput(
            "The header says that the voxels are in another file.",
            field="file",
            remedy="Save the volume as one file: .nrrd or .mha, not .nhdr or .mhd.",
        )


def has_dicom(path: Path) -> bool:
    """Whether a zip holds DICOM files: by the first that might be one. Raises TooLarge."""
    try:
        with BoundedZip(path) as archive:
            for info in archive.infolist()[:64]:
                if not info.is_dir() and info.file_size > 132:
                    with archive.open(info) as entry:
                        if entry.read(132)[128:] == DICOM_MAGIC:
                            return True
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError):
        return False
    return False


class Volume:
    """A volume in a file of `kind`: a key of SUFFIXES, or "dicom" for a zip of a series. path: of the file. Raises
    BadInput, TooLarge, MissingDependency."""

    def __init__(self, path: Path, kind: str, max_mb: int, max_voxels: int) -> None:
        self._itk = import_simpleitk()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            if kind == "dicom":
                self._folder = tempfile.TemporaryDirectory()
                self._reader = self._series(path, Path(self._folder.name), max_mb)
            else:
                self._reader = self._itk.ImageFileReader()
                self._reader.SetFileName(str(path))
            self.geometry = self._look(max_voxels)
        except BaseException:
            self.close()
            raise

    def _series(self, path: Path, folder: Path, max_mb: int) -> Any:
        """The largest series in the zip, unpacked under names of our own."""
        with wrap_zip_errors("The zip"), translate_disk_full(), BoundedZip(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            check_entries(infos, max_mb)
            for number, info in enumerate(infos):
                with archive.open(info) as entry, (folder / f"{number:06d}.dcm").open("wb") as out:
                    while part := entry.read(1 << 20):
                        out.write(part)
        finder = self._itk.ImageSeriesReader
        with wrap_itk_errors():
            series = [
                finder.GetGDCMSeriesFileNames(str(folder), i) for i in finder.GetGDCMSeriesIDs(str(folder))
            ]
        if not series:
            raise BadInput(
                "There is no DICOM series in the zip.",
                field="file",
                remedy="Zip the folder of a series.",
            )
        reader = finder()
        reader.SetFileNames(max(series, key=len))
        return reader

    def _look(self, max_voxels: int) -> VolumeGeometry:
        """From the header, where there is one for all of it."""
        if isinstance(self._reader, self._itk.ImageSeriesReader):
            self._check_series(max_voxels)
            return read_geometry(self.image())
        with wrap_itk_errors():
            self._reader.ReadImageInformation()
        size = self._reader.GetSize()
        if len(size) == 4 and size[3] == 1:  # NIfTI often has one point in time
            self._reader.SetExtractSize([*size[:3], 0])
            size = size[:3]
        voxels = int(np.prod(size, dtype=object))
        if len(size) != 3 or self._reader.GetNumberOfComponents() != 1:
            raise BadInput(
                f"The volume has {len(size)} axes and {self._reader.GetNumberOfComponents()} values a voxel.",
                field="file",
                remedy="Send one of three axes and one value a voxel; of several points in time, one at a time.",
            )
        if voxels > max_voxels:
            raise TooLarge(
                f"The volume has {voxels} voxels; the limit is {max_voxels}.", field="file", remedy="Crop it."
            )
        reader, rank = self._reader, self._reader.GetDimension()
        direction = np.array(reader.GetDirection()).reshape(rank, rank)[:3, :3]
        return VolumeGeometry(
            tuple(size), reader.GetSpacing()[:3], reader.GetOrigin()[:3], tuple(map(float, direction.ravel()))
        )

    def _check_series(self, max_voxels: int) -> None:
        """Before any voxel is read. Raises TooLarge."""
        voxels, one = 0, self._itk.ImageFileReader()
        for name in self._reader.GetFileNames():
            one.SetFileName(name)
            with wrap_itk_errors():
                one.ReadImageInformation()
            voxels += int(np.prod(one.GetSize(), dtype=object)) * one.GetNumberOfComponents()
            if voxels > max_voxels:
                raise TooLarge(
                    f"The series has over {max_voxels} voxels.", field="file", remedy="Send a part of it."
                )

    def image(self) -> Any:
        """As SimpleITK has it."""
        with wrap_itk_errors():
            return self._reader.Execute()

    def voxels(self) -> NDArray[Any]:
        """[slices, rows, columns] in the file's own type."""
        found: NDArray[Any] = self._itk.GetArrayFromImage(self.image())
        return found

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def read_geometry(image: Any) -> VolumeGeometry:
    return VolumeGeometry(
        tuple(image.GetSize()),
        tuple(image.GetSpacing()),
        tuple(image.GetOrigin()),
        tuple(image.GetDirection()),
    )
