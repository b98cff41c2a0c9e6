"""Write DICOM files with pydicom: slices of a drawn scene, whose values say where they are."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from segserve.files.open_file import import_dicom
from segserve.files.probe_file import probe_file
from segserve.types import FileLimits, FileOptions, FileRecord

LIMITS = FileLimits(max_mb=50, max_frame_pixels=1 << 20, max_voxels=1 << 22)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
ROWS, COLUMNS = 12, 16


def oblique(degrees: float = 20.0) -> tuple[float, ...]:
    """Orientation of slices turned about two axes."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = z @ x
    return (*turned[:, 0], *turned[:, 1])


def normal_of(orientation: Sequence[float]) -> NDArray[Any]:
    return np.cross(orientation[:3], orientation[3:])


def make_slice(
    pixels: NDArray[Any],
    position: Sequence[float] | None = (0, 0, 0),
    *,
    orientation: Sequence[float] | None = AXIAL,
    series: str = "1.2.3.1",
    number: int = 1,
    bits: int | None = None,
    spacing: Sequence[float] | None = (0.8, 0.7),
    **attributes: Any,
) -> FileDataset:
    """Return a data set of one image. pixels: [H, W], [H, W, 3], or with frames before these axes (`NumberOfFrames`).

    attributes: more of them by keyword, or in place of those that are made here; None leaves one out.
    """
    made = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    is_colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    height, width = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    allocated = 8 * pixels.dtype.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": f"{series}.{number}.{abs(hash(tuple(attributes))) % 1000}",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": "1.2.3.9",
        "Modality": "CT",
        "InstanceNumber": number,
        "ImagePositionPatient": None if position is None else [f"{value:.10g}"[:16] for value in position],
        "ImageOrientationPatient": None if orientation is None else [f"{v:.12f}"[:16] for v in orientation],
        "PixelSpacing": None if spacing is None else list(spacing),
        "SliceThickness": 2.5,
        "Rows": height,
        "Columns": width,
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "BitsAllocated": allocated,
        "BitsStored": bits or allocated,
        "HighBit": (bits or allocated) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PlanarConfiguration": 0 if is_colour else None,
    }
    for keyword, value in {**values, **attributes}.items():
        if value is not None:
            setattr(made, keyword, value)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    return made


def encode(
    data_set: FileDataset, syntax: str = ExplicitVRLittleEndian, frames: Sequence[bytes] | None = None
) -> bytes:
    """Return the file. frames: compressed ones, in place of the pixels."""
    out = io.BytesIO()
    meta = data_set.file_meta
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    if frames is not None:
        data_set.PixelData = encapsulate(list(frames))
        data_set["PixelData"].VR = "OB"
        data_set["PixelData"].is_undefined_length = True
    if syntax == ExplicitVRBigEndian:
        dcmwrite(out, data_set, implicit_vr=False, little_endian=False, force_encoding=True)
    else:
        data_set.save_as(out, enforce_file_format=True)
    return out.getvalue()


def draw(number: int = 0, dtype: Any = np.int16) -> NDArray[Any]:
    """Return a slice whose values say its number, row and column."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return (1000 * (number % 30) + 20 * y + x).astype(dtype)


def positions(count: int, orientation: Sequence[float] = AXIAL, step: float = 2.5) -> list[NDArray[Any]]:
    return [np.array([10, 20, 30]) + step * number * normal_of(orientation) for number in range(count)]


def make_series(count: int = 6, orientation: Sequence[float] = AXIAL, **attributes: Any) -> dict[str, bytes]:
    """Return the files of a series of `draw`, by name; their order is not that of the slices."""
    step = attributes.pop("step", 2.5)
    prefix = attributes.pop("prefix", "IM")
    files = {}
    for number, position in enumerate(positions(count, orientation, step)):
        made = make_slice(draw(number), position, orientation=orientation, number=number + 1, **attributes)
        files[f"{prefix}{number * 7 % 100:02d}"] = encode(made)
    return files


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


class Opened:
    """An upload, probed and read: its record, its voxels and its geometry; or its frames."""

    def __init__(self, path: Path, options: FileOptions = FileOptions(), limits: FileLimits = LIMITS) -> None:
        self.record: FileRecord = probe_file(path, "0" * 64, limits, options)
        dicom = import_dicom()
        file = dicom.DicomFile(path, limits, options)
        if self.record.spacing is not None:
            volume = dicom.DicomVolume(file, limits)
            self.geometry, self.voxels, self.window = volume.geometry, volume.voxels(), volume.window
            self.source = file.source_series()
            volume.close()
        else:
            frames = dicom.DicomFrames(file, limits)
            self.frames = np.stack([frames.read(index) for index in range(frames.count)])
            frames.close()

    @property
    def affine(self) -> NDArray[Any]:
        """[4, 4]: from (x, y, z) indices to millimetres in DICOM's axes."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.geometry.direction, (3, 3)) * np.array(self.geometry.spacing)
        matrix[:3, 3] = self.geometry.origin
        return matrix


def open_files(
    folder: Path, files: dict[str, bytes], options: FileOptions = FileOptions(), name: str = "u.zip"
) -> Opened:
    return Opened(write_zip(folder / name, files), options)


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made
