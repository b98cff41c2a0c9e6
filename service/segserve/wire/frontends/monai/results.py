"""Labels as MONAI Label answers them: a file of the volume's geometry, JSON, or both as multipart."""

import asyncio
import math
import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.files.file_view import FileView
from segserve.identity.identity import current_tenant
from segserve.images.encode_picture import encode_picture
from segserve.rendering.dicom_seg import SegSource, write_dicom_seg
from segserve.rendering.label_volume import write_labels
from segserve.rendering.source_file import SourceFile
from segserve.wire.frontends.monai.params import InferIn
from segserve.wire.frontends.monai.volumes import Volume

Json = dict[str, Any]

PICTURE_EXTENSION = ".png"
MEDIA_TYPES = {".nii.gz": "application/gzip", PICTURE_EXTENSION: "image/png"}
BYTES = "application/octet-stream"
# Labels, the type that the client wants, ITK's copy, and the file twice: a slice or two are more.
BYTES_PER_VOXEL = 6
DICOM = "application/dicom"


class Output(StrEnum):
    """The request of a client."""

    IMAGE = "image"
    JSON = "json"
    ALL = "all"
    DICOM_SEG = "dicom_seg"


@dataclass(frozen=True)
class Labels:
    """`Labels` are what a task has found.

    values: [slices, rows, columns]; 0 is background. names: values by names of labels. details: for the client to
    read. model: that found them.
    """

    values: NDArray[Any]
    names: dict[str, int]
    details: Json
    model: str


async def write_answer(
    service: Service, volume: Volume, labels: Labels, params: InferIn, output: Output
) -> Response:
    """Write the answer. Raises BadInput, TooLarge, MissingDependency, and as `SourceFile.read_source_series` does."""
    content = orjson.dumps({"label_names": labels.names, **labels.details})
    if output is Output.JSON:
        return Response(content, media_type="application/json")
    if output is Output.DICOM_SEG:
        return file_response(await write_seg(service, volume, labels, params), "label.dcm", DICOM)
    extension = params.result_extension or volume.extension
    data = await write_file(service, volume, labels, params, extension)
    name, media_type = f"label{extension}", MEDIA_TYPES.get(extension, BYTES)
    if output is Output.IMAGE:
        return file_response(data, name, media_type)
    return await asyncio.to_thread(multipart_response, content, data, name, media_type)


async def write_file(
    service: Service, volume: Volume, labels: Labels, params: InferIn, extension: str
) -> bytes:
    """Return labels as a file, made when there is memory for it. Raises as `encode_labels`, and Busy."""
    async with hold_memory(service, volume):
        return await asyncio.to_thread(encode_labels, volume, labels, params, extension)


def hold_memory(service: Service, volume: Volume) -> AbstractAsyncContextManager[None]:
    """Hold the memory of writing an answer, of the budget that all reading shares. Raises TooLarge, Busy.

    Nothing is read while it is held: a reader would wait for memory that such writers hold.
    """
    return service.image_memory.hold(BYTES_PER_VOXEL * math.prod(volume.shape), "image")


def encode_labels(volume: Volume, labels: Labels, params: InferIn, extension: str) -> bytes:
    """Encode labels as a file. Blocks. Raises BadInput, TooLarge, MissingDependency."""
    values = cast_labels(labels.values, params.result_dtype or "uint8")
    if extension == PICTURE_EXTENSION:
        if values.shape[0] != 1 or values.dtype != np.uint8:
            raise BadInput(
                "A PNG holds one slice, in 8 bits.",
                field="params.result_extension",
                remedy="Ask for .nrrd or .nii.gz, or for result_dtype uint8.",
            )
        return encode_picture(values[0][..., None], "png")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"label{extension}"
        write_labels(path, values, volume.geometry, compress=params.result_compress)
        return path.read_bytes()


def cast_labels(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return labels in the type that the client asks for. Raises TooLarge where it does not hold them."""
    wanted = np.dtype(dtype)
    largest = int(values.max(initial=0))
    if wanted.kind in "iu" and largest > np.iinfo(wanted).max:
        raise TooLarge(
            f"There are {largest} labels, more than {dtype} holds.",
            field="params.result_dtype",
            remedy="Ask for uint16, or leave out separate_objects.",
        )
    return values.astype(wanted, copy=False)


async def write_seg(service: Service, volume: Volume, labels: Labels, params: InferIn) -> bytes:
    """Return labels as DICOM SEG. Raises BadInput where the volume is no DICOM, MissingDependency, TooLarge."""
    if volume.file is None:
        raise BadInput(
            "A DICOM SEG refers to the images of a DICOM series, and this is a picture.",
            field="output",
            remedy="Ask for the output image.",
        )
    record, readers = volume.file, service.files.readers.group()
    names = {value: name for name, value in labels.names.items()}
    names |= {value: info.name for value, info in enumerate(params.label_info, 1) if info.name}
    digest = sha256(f"{record.file_id} {labels.model}".encode()).hexdigest()
    async with service.files.local_copy(current_tenant(), record.file_id) as (_, path):
        file = SourceFile(FileView(record.file_id), record, path, readers)
        series = await readers.run(file.read_source_series)
    source = SegSource(series, volume.geometry, labels.model, digest, names)

    def write() -> bytes:
        with TemporaryDirectory() as folder:
            seg_path = Path(folder) / "labels.dcm"
            write_dicom_seg(seg_path, labels.values, source)
            return seg_path.read_bytes()

    async with hold_memory(service, volume):
        return await asyncio.to_thread(write)


def file_response(data: bytes, name: str, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)


def multipart_response(content: bytes, data: bytes, name: str, media_type: str) -> Response:
    """Return both as multipart/form-data: `params` is the JSON, `image` the file. Blocks: it copies the file."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
    middle = (
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    body = b"".join([head.encode(), content, middle.encode(), data, f"\r\n--{boundary}--\r\n".encode()])
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
