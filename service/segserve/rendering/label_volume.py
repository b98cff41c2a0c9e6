"""Label volumes: the objects of all slices as one file (NIfTI, NRRD, MHA, DICOM SEG or TIFF), in the source's geometry.

All functions yield parts of the file. Parts are empty while the file is being made.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from segserve.errors import MissingDependency
from segserve.files.volume_geometry import VolumeGeometry
from segserve.masks.label_map import Labels
from segserve.rendering.dicom_seg import SegSource, write_dicom_seg
from segserve.rendering.nifti_file import write_nifti
from segserve.rendering.result_index import ResultIndex
from segserve.types import Size

Volume: TypeAlias = NDArray[np.uint16 | np.uint32]

READ_BYTES = 1 << 20

# Pixels beyond which a TIFF must be a BigTIFF: classic TIFFs end at 4 GiB, and their directories need some room.
MAX_CLASSIC_TIFF_BYTES = (1 << 32) - (1 << 25)


class TiffUnit(StrEnum):
    """The unit in which ImageJ is told a spacing."""

    MILLIMETRE = "mm"
    MICROMETRE = "um"


UNITS_PER_MM = {TiffUnit.MILLIMETRE: 1.0, TiffUnit.MICROMETRE: 1000.0}


def write_label_volume(
    results: ResultIndex, axis: int, geometry: VolumeGeometry, suffix: str
) -> Iterator[bytes]:
    """Write a compressed file: NIfTI by nibabel, NRRD and MetaImage by SimpleITK.

    It takes the memory of the volume once.

    axis: of the file's [Z, Y, X], along which the slices of the results are cut.
    suffix: ".nii.gz", ".nrrd" or ".mha".

    Raises TooLarge, MissingDependency.
    """
    with TemporaryDirectory() as folder:
        volume = create_volume(Path(folder), results, geometry)
        yield from fill_volume(volume, results, axis)
        path = Path(folder) / f"labels{suffix}"
        write_labels(path, volume, geometry)
        yield from read_parts(path)


def write_labels(
    path: Path, volume: NDArray[Any], geometry: VolumeGeometry, *, compress: bool = True
) -> None:
    """Write labels [Z, Y, X] as the file that the suffix of `path` says: .nii, .nii.gz, .nrrd or .mha.

    compress: NRRD and MetaImage. Raises MissingDependency.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        write_nifti(path, volume, geometry)
    else:
        write_by_itk(path, volume, geometry, compress=compress)


def write_by_itk(
    path: Path, volume: NDArray[Any], geometry: VolumeGeometry, *, compress: bool = True
) -> None:
    """Write NRRD or MetaImage, sheared directions too. Raises MissingDependency."""
    try:
        import SimpleITK as itk
    except ImportError:
        raise MissingDependency("SimpleITK", "volumes", "Making a label volume") from None
    image = itk.GetImageFromArray(volume)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    itk.WriteImage(image, str(path), useCompression=compress, compressionLevel=1)


def write_label_seg(results: ResultIndex, axis: int, source: SegSource) -> Iterator[bytes]:
    """Write a DICOM SEG. It takes the memory of the volume twice.

    Parameters are those of `write_label_volume`. Raises BadInput, TooLarge, MissingDependency.
    """
    with TemporaryDirectory() as folder:
        volume = create_volume(Path(folder), results, source.geometry)
        yield from fill_volume(volume, results, axis)
        path = Path(folder) / "labels.dcm"
        write_dicom_seg(path, volume, source)
        yield from read_parts(path)


def write_volume_tiff(
    results: ResultIndex, axis: int, geometry: VolumeGeometry, unit: TiffUnit | None
) -> Iterator[bytes]:
    """Write a TIFF with a page for each slice along axis 0, which ImageJ opens with its spacing.

    unit: in which the spacing is written; None where it is unknown: the file then has none.
    Parameters and errors are those of `write_label_volume`.
    """
    with TemporaryDirectory() as folder:
        volume = create_volume(Path(folder), results, geometry)
        yield from fill_volume(volume, results, axis)
        spacing, pixels_per_unit = dict[str, Any](), None
        if unit is not None:
            x, y, z = (length * UNITS_PER_MM[unit] for length in geometry.spacing)
            spacing, pixels_per_unit = {"spacing": z, "unit": str(unit)}, (1 / x, 1 / y)
        description = tifffile.imagej_description(volume.shape, axes="ZYX", **spacing)
        path = Path(folder) / "labels.tif"
        big = volume.nbytes > MAX_CLASSIC_TIFF_BYTES
        yield from write_pages(path, iter(volume), description, big, pixels_per_unit)
        yield from read_parts(path)


def write_frames_tiff(results: ResultIndex, count: int, size: Size, fps: float | None) -> Iterator[bytes]:
    """Write a TIFF with a page for each frame. It takes the memory of one frame. Raises TooLarge."""
    pages = (results.build_label_map(frame, size) for frame in range(count))
    shape = count, size.height, size.width
    rate = {} if fps is None else {"fps": fps, "finterval": 1 / fps}
    description = tifffile.imagej_description(shape, axes="TYX", **rate)
    big = count * size.height * size.width * np.dtype(results.dtype).itemsize > MAX_CLASSIC_TIFF_BYTES
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tif"
        yield from write_pages(path, pages, description, big, None)
        yield from read_parts(path)


def create_volume(folder: Path, results: ResultIndex, geometry: VolumeGeometry) -> Volume:
    """Return an empty label volume [Z, Y, X], mapped to a file in the folder."""
    shape = geometry.size[::-1]
    return np.lib.format.open_memmap(folder / "labels.npy", "w+", results.dtype, shape)


def fill_volume(volume: Volume, results: ResultIndex, axis: int) -> Iterator[bytes]:
    """Fill the volume, with an empty part for each slice. Raises BadInput if a mask is not of a slice's size."""
    slices = np.moveaxis(volume, axis, 0)
    size = Size(*slices.shape[1:])
    for index in results.frame_numbers:
        slices[index] = results.build_label_map(index, size)
        yield b""


def write_pages(
    path: Path,
    pages: Iterator[Labels],
    description: str,
    big: bool,
    pixels_per_unit: tuple[float, float] | None,
) -> Iterator[bytes]:
    """Write the pages of a TIFF, with an empty part for each page.

    description: ImageJ's description of the whole stack.
    big: True for a BigTIFF.
    pixels_per_unit: across and down, of the unit that the description names.
    """
    with tifffile.TiffWriter(path, bigtiff=big) as out:
        for page in pages:
            out.write(
                page,
                photometric="minisblack",
                compression="zlib",
                predictor=True,
                description=description,
                metadata=None,
                software=False,
                resolution=pixels_per_unit,
                resolutionunit="NONE" if pixels_per_unit else None,
            )
            description = ""  # only the first page has one
            yield b""


def read_parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part
