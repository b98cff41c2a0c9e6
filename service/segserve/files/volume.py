"""Read volumes with SimpleITK: NIfTI, NRRD, MetaImage, and a zip of a DICOM series."""

import locale
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.files.dicom_completeness import check_dicom_complete
from segserve.files.volume_completeness import check_complete
from segserve.files.volume_format import DICOM_SERIES, SUFFIX_BY_FORMAT
from segserve.files.volume_geometry import VolumeGeometry
from segserve.files.zip_archive import BoundedZip, check_entries, wrap_zip_errors
from segserve.sandbox.confine import allow_memory
from segserve.temporary_files import translate_disk_full

UNPACK_CHUNK_BYTES = 1 << 20
# ITK holds the file's bytes and the voxels at the same time; then the voxels are held here and by the service.
COPIES = 2
# Its types have up to 8 bytes.
MAX_BYTES_PER_VOXEL = COPIES * 8


def import_simpleitk() -> Any:
    """Return the module SimpleITK. Raises MissingDependency."""
    try:
        import SimpleITK
    except ImportError:
        raise MissingDependency("SimpleITK", "volumes", "Reading a volume") from None
    return SimpleITK


@contextmanager
def wrap_itk_errors() -> Iterator[None]:
    """Turn ITK's errors in the block into BadInput, and restore the locale after it."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError from None
        raise BadInput(
            "The volume is damaged, or of a kind that is not read.",
            field="file",
            remedy="Is it complete? Open it in a viewer and save it again.",
        ) from None
    finally:
        # GDCM sets the C locale, in which Python reads text files as ASCII.
        locale.setlocale(locale.LC_ALL, before)


class Volume:
    """`Volume` reads the geometry and the voxels of a file.

    path: of the file, with the suffix by which ITK knows its format.
    file_format: a key of `volume_format.SUFFIX_BY_FORMAT`, or DICOM_SERIES for a zip of a series.
    max_mb: limit for an unpacked zip.
    max_voxels: limit for the volume.
    Raises BadInput, TooLarge, MissingDependency.
    """

    def __init__(self, path: Path, file_format: str, max_mb: int, max_voxels: int) -> None:
        self._itk = import_simpleitk()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._image: Any = None
        self._voxels = self._voxel_bytes = 0
        self._path, self._format, self._is_complete = path, file_format, False
        try:
            if file_format == DICOM_SERIES:
                self._folder = tempfile.TemporaryDirectory()
                unpack_zip(path, Path(self._folder.name), max_mb)
                self._reader = self._open_largest_series(self._folder.name)
            else:
                self._reader = self._itk.ImageFileReader()
                self._reader.SetFileName(str(path))
            self.geometry = self._read_geometry(max_voxels)
        except BaseException:
            self.close()
            raise

    def _open_largest_series(self, folder: str) -> Any:
        """Return ITK's reader of the DICOM series with the most files in `folder`. Raises BadInput."""
        series_reader = self._itk.ImageSeriesReader
        with wrap_itk_errors():
            series = [
                series_reader.GetGDCMSeriesFileNames(folder, series_id)
                for series_id in series_reader.GetGDCMSeriesIDs(folder)
            ]
        if not series:
            raise BadInput(
                "There is no DICOM series in the zip.",
                field="file",
                remedy="Zip the folder of a series.",
            )
        reader = series_reader()
        reader.SetFileNames(max(series, key=len))
        return reader

    def _read_geometry(self, max_voxels: int) -> VolumeGeometry:
        """Read the geometry from the header; of a DICOM series, which has none for all of it, from the image."""
        if isinstance(self._reader, self._itk.ImageSeriesReader):
            self._check_series(max_voxels)
            return read_geometry(self.image())
        with wrap_itk_errors():
            self._reader.ReadImageInformation()
        size = self._reader.GetSize()
        self._voxels = int(np.prod(size, dtype=object))
        self._voxel_bytes = count_voxel_bytes(self._itk, self._reader)
        if len(size) == 4 and size[3] == 1:  # NIfTI files often have a time axis with one point
            self._reader.SetExtractSize([*size[:3], 0])
            size = size[:3]
        if len(size) != 3 or self._reader.GetNumberOfComponents() != 1:
            raise BadInput(
                f"The volume has {len(size)} axes and {self._reader.GetNumberOfComponents()} values a voxel.",
                field="file",
                remedy="Send one of three axes and one value a voxel; of several points in time, one at a time.",
            )
        if self._voxels > max_voxels:
            raise TooLarge(
                f"The volume has {self._voxels} voxels; the limit is {max_voxels}.",
                field="file",
                remedy="Crop it.",
            )
        reader, rank = self._reader, self._reader.GetDimension()
        direction = np.array(reader.GetDirection()).reshape(rank, rank)[:3, :3]
        return VolumeGeometry(
            tuple(size), reader.GetSpacing()[:3], reader.GetOrigin()[:3], tuple(map(float, direction.ravel()))
        )

    def _check_series(self, max_voxels: int) -> None:
        """Count the voxels by the headers, before any voxel is read. Raises TooLarge."""
        header_reader = self._itk.ImageFileReader()
        for name in self._reader.GetFileNames():
            header_reader.SetFileName(name)
            with wrap_itk_errors():
                header_reader.ReadImageInformation()
            voxels = int(np.prod(header_reader.GetSize(), dtype=object))
            self._voxels += voxels * header_reader.GetNumberOfComponents()
            self._voxel_bytes = max(self._voxel_bytes, count_voxel_bytes(self._itk, header_reader))
            if self._voxels > max_voxels:
                raise TooLarge(
                    f"The series has over {max_voxels} voxels.", field="file", remedy="Send a part of it."
                )

    def image(self) -> Any:
        """Return the SimpleITK.Image. Raises BadInput, and MemoryError."""
        if self._image is None:
            self.check_complete()
            self.claim_memory()
            with wrap_itk_errors():
                self._image = self._reader.Execute()
        return self._image

    def claim_memory(self) -> None:
        """Let this process take what the voxels need. Called for an upload too, so that none is stored that no job
        could read."""
        allow_memory(MAX_BYTES_PER_VOXEL * self._voxels, used=COPIES * self._voxel_bytes * self._voxels)

    def check_complete(self) -> None:
        """Check that all voxels are in the file, which is read once for that. Raises BadInput where it ends early."""
        if not self._is_complete and self._format in SUFFIX_BY_FORMAT:
            check_complete(self._path, self._format, self._voxels)
        elif not self._is_complete:
            for name in self._reader.GetFileNames():
                check_dicom_complete(Path(name))
        self._is_complete = True

    def voxels(self) -> NDArray[Any]:
        """Return [slices, rows, columns] in the file's own dtype, which last as long as the volume.

        Raises BadInput, and MemoryError.
        """
        array: NDArray[Any] = self._itk.GetArrayViewFromImage(self.image())
        return array

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def count_voxel_bytes(itk: Any, reader: Any) -> int:
    """Return the bytes of a voxel, by the header that an ITK reader has read; 8 where the type is an unusual one."""
    small = {
        1: (itk.sitkUInt8, itk.sitkInt8),
        2: (itk.sitkUInt16, itk.sitkInt16),
        4: (itk.sitkUInt32, itk.sitkInt32, itk.sitkFloat32),
    }
    return next((size for size, kinds in small.items() if reader.GetPixelID() in kinds), 8)


def unpack_zip(path: Path, folder: Path, max_mb: int) -> None:
    """Unpack the files of a zip into `folder`, under numbers instead of their own names. Raises BadInput, TooLarge."""
    with wrap_zip_errors("The zip"), translate_disk_full(), BoundedZip(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        check_entries(infos, max_mb)
        for number, info in enumerate(infos):
            with archive.open(info) as entry, (folder / f"{number:06d}.dcm").open("wb") as out:
                while chunk := entry.read(UNPACK_CHUNK_BYTES):
                    out.write(chunk)


def read_geometry(image: Any) -> VolumeGeometry:
    """Return the geometry of a SimpleITK.Image."""
    return VolumeGeometry(
        tuple(image.GetSize()),
        tuple(image.GetSpacing()),
        tuple(image.GetOrigin()),
        tuple(image.GetDirection()),
    )
