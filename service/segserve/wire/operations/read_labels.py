"""Read an uploaded label volume on the grid of a stored volume: labels of other programs, to look at and to correct."""

import asyncio
import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import FileView, view_shape
from segserve.files.match_grid import match_grid
from segserve.files.place_segments import place_segments
from segserve.files.volume_geometry import VolumeGeometry
from segserve.identity.identity import current_tenant
from segserve.masks import crop, label_map, rle
from segserve.rendering.source_file import SourceFile
from segserve.temporary_files import translate_disk_full
from segserve.types import Crop, FileKind, FileRecord
from segserve.wire.operations.reference_prompts import to_labels

FIELD = "file"
MAX_MASKS = 200_000
# Run lengths of all masks together.
MAX_RLE_CHARACTERS = 256 << 20
# Boxes around the labels of one slice, together: noise has a box of the whole slice for each label.
MAX_BOX_PIXELS = 256 << 20
# Segments times voxels of the scan: each segment is placed on the whole scan, some 0.1 s for 1 G voxels.
MAX_SEGMENT_VOXELS = 64 << 30
# Of the labels on the scan's grid. Reading the file counts as memory by itself.
BYTES_PER_VOXEL = 2
COPY_CHUNK_BYTES = 1 << 20

Json = dict[str, Any]
Answer = TypeVar("Answer")


async def read_labels(
    service: Service, scan_id: str, axis: int, file: BinaryIO, write: Callable[[Json], Answer]
) -> Answer:
    """Return what `write` makes of the JSON of `LabelsOut`, in a thread. The label volume is not stored.

    file: NIfTI, NRRD, MetaImage, MGH, or DICOM SEG.

    Raises FileNotFound, BadInput, TooLarge, UnsupportedFormat, MissingDependency, Busy, Unavailable.
    """
    readers = service.files.readers.group()
    with translate_disk_full(), tempfile.TemporaryDirectory() as folder:
        async with service.files.local_copy(current_tenant(), scan_id) as (record, scan_path):
            check_volume(record)
            path = Path(folder) / "labels"
            await asyncio.to_thread(copy_file, file, path)
            scan = SourceFile(FileView(scan_id), record, scan_path, readers)
            voxels = record.count * record.size.height * record.size.width
            async with service.image_memory.hold(BYTES_PER_VOXEL * voxels, FIELD):
                return await readers.run(lambda: write(render_labels(readers, path, scan, axis)))


def check_volume(record: FileRecord) -> None:
    if record.kind is not FileKind.VOLUME:
        raise BadInput(
            "The file is no volume, so that no label volume belongs to it.",
            field="file_id",
            remedy="Name the volume that the labels were drawn on.",
        )


def copy_file(file: BinaryIO, path: Path) -> None:
    file.seek(0)
    with path.open("wb") as out:
        shutil.copyfileobj(file, out, COPY_CHUNK_BYTES)


def render_labels(readers: FileReaders, path: Path, scan: SourceFile, axis: int) -> Json:
    """Return the JSON of `LabelsOut`. Blocks."""
    _, size = view_shape(scan.record, axis)
    slices = defaultdict[int, list[Json]](list)
    count = characters = 0
    for index, label, name, mask in list_masks(readers, path, scan.read_geometry(), axis):
        if (count := count + 1) > MAX_MASKS:
            raise too_many(f"The labels have over {MAX_MASKS} objects on slices.")
        found = mask_to_json(label, name, mask)
        if (characters := characters + len(found["mask"]["counts"])) > MAX_RLE_CHARACTERS:
            raise too_many("The outlines of the labels are too ragged to be sent.")
        slices[index].append(found)
    listed = [{"slice": index, "objects": slices[index]} for index in sorted(slices)]
    return {"axis": axis, "width": size.width, "height": size.height, "slices": listed}


def too_many(message: str) -> TooLarge:
    return TooLarge(message, field=FIELD, remedy="Send fewer labels at a time.")


def list_masks(
    readers: FileReaders, path: Path, scan: VolumeGeometry, axis: int
) -> Iterator[tuple[int, int, str | None, Crop]]:
    """Yield (index of the slice, label, name, mask) of each object on each slice."""
    if (segments := readers.read_segments(path)) is not None:
        planes, packed = segments
        count = len({plane.segment for plane in planes.planes})
        if count * math.prod(scan.size) > MAX_SEGMENT_VOXELS:
            raise too_many(f"{count} segments are too many for a scan of this size.")
        for segment, volume in place_segments(planes, packed, scan, field=FIELD):
            along = np.moveaxis(volume, axis, 0)
            for index in np.flatnonzero(along.any(axis=(1, 2))).tolist():
                yield index, segment, planes.names.get(segment), crop.from_mask(along[index])
        return
    for index, plane in enumerate(np.moveaxis(read_volume(readers, path, scan), axis, 0)):
        for label, mask in split_labels(plane):
            yield index, label, None, mask


def read_volume(readers: FileReaders, path: Path, scan: VolumeGeometry) -> NDArray[np.uint16]:
    """Return the labels [Z, Y, X] on the scan's grid."""
    record = readers.probe(path, "")
    if record.kind is not FileKind.VOLUME:
        raise BadInput(
            "The file is no label volume.",
            field=FIELD,
            remedy="Send labels as NIfTI, NRRD, MetaImage, MGH or DICOM SEG.",
        )
    with readers.open_volume(path, record.format) as volume:
        return to_labels(match_grid(volume.voxels(), volume.geometry, scan, field=FIELD), field=FIELD)


def split_labels(plane: NDArray[np.uint16]) -> Iterator[tuple[int, Crop]]:
    """Yield the labels of a slice [H, W] with their masks, by ascending label. Raises TooLarge."""
    windows = label_map.find_windows(plane)
    areas = ((rows.stop - rows.start) * (columns.stop - columns.start) for _, rows, columns in windows)
    if sum(areas) > MAX_BOX_PIXELS:
        raise too_many("The labels of a slice are scattered over all of it.")
    for label, rows, columns in windows:
        yield label, label_map.crop_label(plane, label, rows, columns)


def mask_to_json(label: int, name: str | None, mask: Crop) -> Json:
    """The JSON of `LabelOut`."""
    trimmed = crop.trim_crop(mask)
    return {
        "object_id": label,
        "name": name,
        "mask": {"size": [mask.size.height, mask.size.width], "counts": rle.encode(trimmed)},
        "box": list(crop.bounding_box(trimmed)),
        "area": crop.area(trimmed),
    }
