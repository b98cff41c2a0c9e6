"""Label volumes: the objects of all slices as a file in the geometry of the file they were found in."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from segserve.files.volume import VolumeGeometry, import_simpleitk
from segserve.masks.label_map import Labels
from segserve.rendering.result_index import ResultIndex
from segserve.types import Size

Volume: TypeAlias = NDArray[np.uint16 | np.uint32]

READ_BYTES = 1 << 20  # bytes
MAX_CLASSIC_TIFF_BYTES = (1 << 32) - (
    1 << 25
)  # bytes of pixels beyond which a TIFF is a BigTIFF: the rest is for its directories


def write_label_volume(
    lines: ResultIndex, axis: int, geometry: VolumeGeometry, suffix: str
) -> Iterator[bytes]:
    """A file that SimpleITK writes: ".nii.gz", ".nrrd" or ".mha", compressed. axis: that the lines' slices are cut
    along, of the file's [Z, Y, X]. Parts are empty while it is being made. It takes the volume's memory once. Raises
    TooLarge, MissingDependency."""
    itk = import_simpleitk()
    with TemporaryDirectory() as folder:
        volume = create_volume(Path(folder), lines, geometry)
        yield from fill_volume(volume, lines, axis)
        image = itk.GetImageFromArray(volume)
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
        path = Path(folder) / f"labels{suffix}"
        itk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
        del image
        yield from read_parts(path)


def write_volume_tiff(lines: ResultIndex, axis: int, geometry: VolumeGeometry) -> Iterator[bytes]:
    """As `write_label_volume`, as a TIFF of a page a slice along axis 0, which ImageJ opens with its spacing."""
    with TemporaryDirectory() as folder:
        volume = create_volume(Path(folder), lines, geometry)
        yield from fill_volume(volume, lines, axis)
        x, y, z = geometry.spacing
        told = tifffile.imagej_description(volume.shape, axes="ZYX", spacing=z, unit="mm")
        path = Path(folder) / "labels.tif"
        yield from write_pages(
            path, iter(volume), told, volume.nbytes > MAX_CLASSIC_TIFF_BYTES, (1 / x, 1 / y)
        )
        yield from read_parts(path)


def write_frames_tiff(lines: ResultIndex, count: int, size: Size, fps: float | None) -> Iterator[bytes]:
    """As `write_volume_tiff`, of a page a frame; it takes the memory of one."""
    pages = (lines.build_label_map(frame, size) for frame in range(count))
    shape = count, size.height, size.width
    rate = {} if fps is None else {"fps": fps, "finterval": 1 / fps}
    told = tifffile.imagej_description(shape, axes="TYX", **rate)
    big = count * size.height * size.width * np.dtype(lines.dtype).itemsize > MAX_CLASSIC_TIFF_BYTES
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tif"
        yield from write_pages(path, pages, told, big, None)
        yield from read_parts(path)


def create_volume(folder: Path, lines: ResultIndex, geometry: VolumeGeometry) -> Volume:
    """[Z, Y, X] on disk."""
    shape = geometry.size[::-1]
    return np.lib.format.open_memmap(folder / "labels.npy", "w+", lines.dtype, shape)


def fill_volume(volume: Volume, lines: ResultIndex, axis: int) -> Iterator[bytes]:
    """An empty part for each slice. Raises BadInput where a mask is not of a slice's size."""
    slices = np.moveaxis(volume, axis, 0)
    size = Size(*slices.shape[1:])
    for index in lines.frame_numbers:
        slices[index] = lines.build_label_map(index, size)
        yield b""


def write_pages(
    path: Path, pages: Iterator[Labels], told: str, big: bool, per_mm: tuple[float, float] | None
) -> Iterator[bytes]:
    """An empty part for each page. told: ImageJ's description of all. per_mm: pixels, across and down."""
    with tifffile.TiffWriter(path, bigtiff=big) as out:
        for page in pages:
            out.write(
                page,
                photometric="minisblack",
                compression="zlib",
                predictor=True,
                description=told,
                metadata=None,
                software=False,
                resolution=per_mm,
                resolutionunit="NONE" if per_mm else None,
            )
            told = ""
            yield b""


def read_parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part
