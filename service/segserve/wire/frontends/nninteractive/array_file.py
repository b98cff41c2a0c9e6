"""Packed arrays that come as a request's body: written to a file, then unpacked by a sandboxed process."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.files.file_readers import FileReaders
from segserve.identity.identity import current_tenant
from segserve.temporary_files import translate_disk_full
from segserve.types import FileKind, FileRecord
from segserve.wire.frontends.nninteractive.volume_mask import Shape

FORMAT = "packed_array"
NONCE_BYTES = 16
# Of a scribble or lasso: a slice of 2048 x 2048, all of it. Each takes 24 bytes.
MAX_DRAWN_VOXELS = 1 << 22

T = TypeVar("T")


@asynccontextmanager
async def receive_file(request: Request) -> AsyncIterator[Path]:
    """Write the body to a file, and yield its path while the block runs. Raises TooLarge, StorageFull."""
    with translate_disk_full(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array"
        with path.open("wb") as out:
            async for chunk in request.stream():
                out.write(chunk)
        yield path


async def store_volume(service: Service, path: Path) -> FileRecord:
    """Store a volume, a file of its own even where the same one is stored already: who deletes it takes no other's.

    Raises BadInput, and what `FileLibrary.add` raises.
    """
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(secrets.token_bytes(NONCE_BYTES))  # behind the array, where nothing reads it
        record = await service.files.add(current_tenant(), file)
    if record.kind is not FileKind.VOLUME or record.format != FORMAT:
        await service.files.delete(current_tenant(), record.file_id)
        raise BadInput(
            "The body is no packed array.",
            field="body",
            remedy="Send the image as nninteractive-client packs it, with one channel: [1, X, Y, Z].",
        )
    return record


async def read_array(service: Service, path: Path, shape: Shape, work: Callable[[NDArray[Any]], T]) -> T:
    """Return what `work` returns of the array [X, Y, Z] of a file. It runs in a thread, and keeps nothing of the array.

    shape: that it must have. It is compared before anything is unpacked.

    Raises BadInput for another shape, TooLarge, Busy, Unavailable, and what `work` raises.
    """
    readers = service.files.readers.group()
    return await readers.run(unpack_array, readers, path, shape, work)


def unpack_array(readers: FileReaders, path: Path, shape: Shape, work: Callable[[NDArray[Any]], T]) -> T:
    """Blocks."""
    with readers.open_volume(path, FORMAT) as volume:  # its memory counts until here
        if volume.geometry.size[::-1] != shape:
            raise BadInput(
                f"The array is {list(volume.geometry.size[::-1])}.",
                field="body",
                remedy=f"Send one of {list(shape)}.",
            )
        return work(volume.voxels())


def find_voxels(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the places [N, 3] where a drawing is not 0. Blocks. Raises BadInput, TooLarge."""
    count = np.count_nonzero(values)
    if not count:
        raise BadInput(
            "Nothing is drawn.", field="body", remedy="Send an array that is 1 where something is drawn."
        )
    if count > MAX_DRAWN_VOXELS:
        raise TooLarge(
            f"{count} voxels are drawn.",
            field="body",
            remedy=f"Draw on one slice; up to {MAX_DRAWN_VOXELS} voxels are read.",
        )
    return np.argwhere(values)
