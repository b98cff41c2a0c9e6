"""The images of a batch: uploaded images, a zip of pictures, or a folder or bucket of the server.

Each picture is stored as an image when its turn comes, so that its embedding serves clicks too.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path, PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Protocol, cast

from pydantic import BaseModel, ConfigDict

from segserve.errors import BadInput, NotAllowed, TooLarge, quote
from segserve.files.file_library import FileLibrary
from segserve.files.file_readers import FileReaders
from segserve.files.sandboxed_archive import SandboxedArchive
from segserve.files.zip_archive import PICTURE_SUFFIXES
from segserve.files.zip_names import natural_sort_key
from segserve.images.image_library import ImageLibrary
from segserve.jobs.kinds.server_folder import ServerFolder
from segserve.store.object_store import ObjectStore, open_store
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileRecord, ReadOptions

# Images of one batch: their list is part of the stored request.
MAX_IMAGES = 100_000
# Larger pictures of a root are copied to disk, smaller ones to memory.
SPOOL_BYTES = 1 << 20


class BatchImages(Protocol):
    """`BatchImages` is the images of one batch, in order."""

    @property
    def count(self) -> int: ...

    def get_name(self, index: int) -> str | None:
        """Return the user's name for the image; None if there is none."""
        ...

    async def store_image(self, index: int) -> str:
        """Store the image, if it is not stored yet, and return its id. Raises BadInput if it is not an image."""
        ...

    async def close(self) -> None: ...


class UploadedImages:
    """Images that are stored already. names: one for each id, or none at all."""

    def __init__(self, image_ids: list[str], names: list[str]) -> None:
        self._ids, self._names = image_ids, names
        self.count = len(image_ids)

    def get_name(self, index: int) -> str | None:
        return self._names[index] if self._names else None

    async def store_image(self, index: int) -> str:
        return self._ids[index]

    async def close(self) -> None: ...


class ZippedImages:
    """The pictures of an uploaded zip. A sandboxed process reads the zip; the pictures are decoded like uploads."""

    def __init__(
        self,
        tenant: str,
        archive: SandboxedArchive,
        readers: FileReaders,
        library: ImageLibrary,
        resources: AsyncExitStack,
    ) -> None:
        self._tenant, self._archive, self._readers, self._library = tenant, archive, readers, library
        self._resources = resources
        self._names = archive.names
        self.count = len(archive.names)
        self._read_lock = asyncio.Lock()

    @classmethod
    async def open(
        cls, tenant: str, file_id: str, files: FileLibrary, library: ImageLibrary, max_picture_bytes: int
    ) -> "ZippedImages":
        """Open an uploaded zip. Raises FileNotFound, BadInput if it is not a zip of pictures, TooLarge, Unavailable."""
        resources, readers = AsyncExitStack(), files.readers.group()
        record, path = await resources.enter_async_context(files.local_copy(tenant, file_id))
        try:
            check_zip(record)
            archive = await readers.run(
                SandboxedArchive, readers, path, record.frame_index, max_picture_bytes
            )
        except BaseException:
            await resources.aclose()
            raise
        resources.callback(archive.close)
        return cls(tenant, archive, readers, library, resources)

    def get_name(self, index: int) -> str:
        return self._names[index]

    async def store_image(self, index: int) -> str:
        async with self._read_lock:  # a zip has one reader at a time
            content = await self._readers.run(self._archive.unpack, index)
        with content:
            return (await self._library.add(self._tenant, content, ReadOptions())).image_id

    async def close(self) -> None:
        await self._resources.aclose()


def check_zip(record: FileRecord) -> None:
    """Check that a stored file is a zip. Raises BadInput."""
    if record.format != "zip":
        raise BadInput(
            f"The file is {record.format}, and a batch takes a zip of pictures.",
            field="input.file_id",
            remedy="Upload a zip of pictures with POST /v1/files.",
        )


class ServerRoots:
    """`ServerRoots` are the folders and bucket prefixes that jobs may read from.

    roots: by name, a path or a URL such as s3://... (SEGSERVE_BATCH_ROOTS).
    """

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._roots = roots

    def open_root(self, name: str) -> ObjectStore | ServerFolder:
        """Open a root. Blocks: a mount may hang. Raises NotAllowed, BadInput."""
        if not self._roots:
            raise NotAllowed(
                "No folders of the server may be read.",
                field="input.root",
                remedy='Upload the images, or set SEGSERVE_BATCH_ROOTS to such as {"plates": "/data/plates"}.',
            )
        if name not in self._roots:
            raise BadInput(
                f"There is no root {quote(name)}.",
                field="input.root",
                remedy=f"Name one of: {', '.join(self._roots)}.",
            )
        location = self._roots[name]
        if "://" in location:
            return open_store(location, Path())
        if not Path(location).is_dir():
            raise BadInput(
                f"The folder of root {name!r} is not there.", field="input.root", remedy="Mount it."
            )
        return ServerFolder(Path(location))

    async def list_pictures(self, name: str, folder: str) -> list[str]:
        """Return the paths of all pictures below a folder of a root, in natural order.

        Raises BadInput, TooLarge, NotAllowed.
        """
        parts = PurePosixPath(folder).parts
        if folder.startswith("/") or ".." in parts or "\\" in folder or "\0" in folder:
            raise BadInput(
                f"{folder[:100]!r} is no folder inside the root.",
                field="input.folder",
                remedy="Send a relative path.",
            )
        store = await asyncio.to_thread(self.open_root, name)
        prefix = "".join(f"{part}/" for part in parts if part != ".")
        paths = [
            entry.path
            for entry in await store.list(prefix)
            if PurePosixPath(entry.path).suffix.lower() in PICTURE_SUFFIXES
        ]
        if not paths:
            raise BadInput(
                "There are no pictures in the folder.", field="input.folder", remedy="Name another."
            )
        if len(paths) > MAX_IMAGES:
            raise TooLarge(
                f"There are {len(paths)} pictures.",
                field="input.folder",
                remedy=f"Take {MAX_IMAGES} at most.",
            )
        return sorted(paths, key=natural_sort_key)


class ServerFolderImages:
    """The pictures of a root.

    paths: inside the root, as they were listed when the job was submitted.
    max_picture_bytes: limit for a picture.
    """

    def __init__(
        self,
        tenant: str,
        store: ObjectStore | ServerFolder,
        paths: list[str],
        library: ImageLibrary,
        max_picture_bytes: int,
    ) -> None:
        self._tenant, self._store, self._paths, self._library = tenant, store, paths, library
        self._max_picture_bytes = max_picture_bytes
        self.count = len(paths)

    def get_name(self, index: int) -> str:
        return self._paths[index]

    async def store_image(self, index: int) -> str:
        parts = await self._store.stream(self._paths[index])
        if parts is None:
            raise BadInput(
                "The file is no longer there.", field="input.folder", remedy="Put it back and try again."
            )
        # A copy: the file may change while it is read, and is not held in memory.
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            left_bytes = self._max_picture_bytes
            async with aclosing(cast(AsyncGenerator[bytes], parts)):
                async for part in parts:
                    if (left_bytes := left_bytes - len(part)) < 0:
                        raise TooLarge(
                            f"The file has over {self._max_picture_bytes // MB} MB.",
                            field="input.folder",
                            remedy="Make it smaller, or ask the operator to raise SEGSERVE_MAX_IMAGE_MB.",
                        )
                    spool.write(part)
            return (await self._library.add(self._tenant, cast(BinaryIO, spool), ReadOptions())).image_id

    async def close(self) -> None: ...


class BatchSource(BaseModel):
    """The stored source of a batch: `image_ids`, or the `file_id` of a zip, or `paths` in a `root`.

    names: one for each of `image_ids`, or none at all.
    """

    model_config = ConfigDict(extra="forbid")

    image_ids: list[str] = []
    names: list[str] = []
    file_id: str | None = None
    root: str | None = None
    paths: list[str] = []


class BatchSources:
    """`BatchSources` opens the images of stored sources. max_picture_bytes: limit for a picture of a zip or a root."""

    def __init__(
        self, library: ImageLibrary, files: FileLibrary, roots: ServerRoots, max_picture_bytes: int
    ) -> None:
        self._library, self._files, self._roots = library, files, roots
        self._max_picture_bytes = max_picture_bytes

    async def open(self, tenant: str, source: BatchSource) -> BatchImages:
        """Raises FileNotFound, BadInput, NotAllowed, TooLarge, Unavailable."""
        max_bytes = self._max_picture_bytes
        if source.file_id is not None:
            return await ZippedImages.open(tenant, source.file_id, self._files, self._library, max_bytes)
        if source.root is not None:
            store = await asyncio.to_thread(self._roots.open_root, source.root)
            return ServerFolderImages(tenant, store, source.paths, self._library, max_bytes)
        return UploadedImages(source.image_ids, source.names)
