"""Volumes and pictures that requests mean: found by their hash or by the UID of a series, their slices as images."""

import asyncio
import math
import secrets
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from cachetools import LRUCache, TTLCache

from segserve.app import Service
from segserve.app.encoding_service import MAX_IMAGE_MEMORY_WAIT_S
from segserve.errors import (
    BadInput,
    FileNotFound,
    NotAllowed,
    NotFound,
    SegserveError,
    TooLarge,
    UnsupportedFormat,
)
from segserve.files.fetch_dicomweb import DicomwebSource
from segserve.files.file_view import FileView, view_shape
from segserve.files.volume_format import detect_volume_format
from segserve.files.volume_geometry import VolumeGeometry
from segserve.identity.identity import current_tenant
from segserve.images import formats
from segserve.memory_budget import MemoryBudget
from segserve.rendering.source_file import IDENTITY_DIRECTION, SourceFile
from segserve.settings import MEGAPIXEL
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileKind, FileRecord, ImageRecord, Size
from segserve.wire.frontends.sent_images import SentImages
from segserve.wire.http.limits import SPOOL_BYTES
from segserve.wire.operations.file_frames import write_frame

Window = tuple[float, float] | None

MAX_GEOMETRIES = 256
# Slices whose image_id is remembered. Each takes some hundred bytes.
MAX_SLICES = 1 << 14
MAX_SERIES = 256
# Then a series is fetched again: instances may have been added to it.
SERIES_TTL_S = 600.0
# What the names of files in a session's zip end with, by their format: the readers of zips go by names.
SUFFIXES = {
    "nifti": ".nii",
    "nifti.gz": ".nii.gz",
    "nrrd": ".nrrd",
    "metaimage": ".mha",
    "mgh": ".mgh",
    "mgz": ".mgz",
}
DICOM_SUFFIX = ".dcm"
# Numbers of objects, and what is made of them.
LABEL_BYTES_PER_VOXEL = 3
COPY_CHUNK_BYTES = 1 << 20
# Formats of pictures that are files too: stacks, and DICOM.
FILE_IMAGE_FORMATS = (formats.TIFF, formats.DICOM, formats.CZI, formats.LIF)


@dataclass(frozen=True)
class Volume:
    """`Volume` is what a request is about: the slices of a file, or one picture.

    file, picture: one of them is None. is_own: nobody else has the file, and it is deleted with its session.
    extension: of answers, where the request names none.
    """

    geometry: VolumeGeometry
    file: FileRecord | None
    picture: ImageRecord | None = None
    is_own: bool = False
    extension: str = ".nii.gz"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        x, y, z = self.geometry.size
        return z, y, x

    @property
    def slices(self) -> int:
        return self.geometry.slices

    @property
    def size(self) -> Size:
        return self.geometry.slice_size


class Volumes:
    """`Volumes` stores what clients send, and finds it again."""

    def __init__(self, service: Service, sent_images: SentImages) -> None:
        self._service, self._sent_images = service, sent_images
        self._geometries: LRUCache[str, VolumeGeometry] = LRUCache(MAX_GEOMETRIES)
        # image_id by (tenant, file_id, window, slice).
        self._slices: LRUCache[tuple[str, str, Window, int], str] = LRUCache(MAX_SLICES)
        # By tenant and the sha256 of a file.
        self._stored: LRUCache[tuple[str, str], Volume] = LRUCache(MAX_GEOMETRIES)
        # file_id by tenant and UID.
        self._series: TTLCache[tuple[str, str], str] = TTLCache(MAX_SERIES, SERIES_TTL_S)
        self._fetches: dict[tuple[str, str], asyncio.Task[str]] = {}
        # Apart from the budget of reading: slices are read while labels are held, and would wait for their own task.
        self._label_memory = MemoryBudget(
            service.settings.image_memory_mb * MB // 2,
            "SEGSERVE_IMAGE_MEMORY_MB",
            max_wait_s=MAX_IMAGE_MEMORY_WAIT_S,
            on_refused=partial(service.metrics.requests.count_rejection, "image_memory"),
        )

    def hold_labels(self, volume: Volume) -> AbstractAsyncContextManager[None]:
        """Hold the memory of a volume's labels while the block runs. Raises TooLarge, Busy."""
        voxels, limit = math.prod(volume.shape), self._service.settings.max_volume_megavoxels
        if voxels > limit * MEGAPIXEL:
            raise TooLarge(
                f"The volume has {voxels / MEGAPIXEL:.0f} megavoxels; up to {limit} are segmented.",
                field="image",
                remedy="Send a smaller volume, or a part of it.",
            )
        return self._label_memory.hold(LABEL_BYTES_PER_VOXEL * voxels, "image")

    async def add(self, file: BinaryIO) -> Volume:
        """Store a volume or a picture, and return it. The same bytes are stored once.

        Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency, Unavailable.
        """
        if await asyncio.to_thread(is_picture, file):
            max_mb = self._service.settings.max_image_mb
            if file.seek(0, 2) > max_mb * MB:
                raise TooLarge(
                    f"The picture is larger than {max_mb} MB.",
                    field="file",
                    remedy="Send a smaller picture, or compress it.",
                )
            record = await self._sent_images.store_file(file)
            size = record.size.width, record.size.height, 1
            geometry = VolumeGeometry(
                size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY_DIRECTION, is_placed=False
            )
            return Volume(geometry, None, record, extension=".png")
        return await self._describe(await self._service.files.add(current_tenant(), file))

    async def find_stored(
        self, digest: str, open_file: Callable[[], AbstractAsyncContextManager[BinaryIO]]
    ) -> Volume:
        """Return the volume of a file that is kept elsewhere, by its sha256. open_file: opens it where it is needed.

        Raises as `add` does.
        """
        key = current_tenant(), digest
        if (known := self._stored.get(key)) is not None:
            try:
                if known.file is not None:
                    await self._service.files.get_record(current_tenant(), known.file.file_id)
                elif known.picture is not None:
                    await self._service.images.get_record(current_tenant(), known.picture.image_id)
                return known
            except NotFound:
                del self._stored[key]
        async with open_file() as file:
            volume = self._stored[key] = await self.add(file)
        return volume

    async def add_own(self, files: Sequence[BinaryIO]) -> Volume:
        """Store the files of one volume for a session alone, so that they can be deleted with it. Raises as `add`.

        A picture, and a file that cannot be put into a zip, is stored as `add` does.
        """
        suffixes = [await asyncio.to_thread(find_suffix, file) for file in files]
        if any(suffix is None for suffix in suffixes):
            if len(files) == 1:
                return await self.add(files[0])
            raise BadInput(
                "Not all of the files are volumes.",
                field="files",
                remedy="Send one volume, or the files of one DICOM series.",
            )
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            out = cast(BinaryIO, spool)
            await asyncio.to_thread(write_own_zip, files, [suffix or "" for suffix in suffixes], out)
            record = await self._service.files.add(current_tenant(), out)
        try:
            return await self._describe(record, is_own=True, suffix=suffixes[0] or "")
        except BaseException:  # also where the client leaves
            await self._service.files.delete(current_tenant(), record.file_id)
            raise

    async def find_series(self, uid: str) -> Volume:
        """Return a series of the DICOMweb server of the setting `dicomweb_url`.

        Raises NotAllowed, BadInput, FetchFailed, TooLarge.
        """
        key = current_tenant(), uid
        if (file_id := self._series.get(key)) is not None:
            try:
                return await self._describe(await self._service.files.get_record(current_tenant(), file_id))
            except FileNotFound:
                self._series.pop(key, None)
        fetching = self._fetches.get(key)
        if fetching is None:  # a task of its own: a client that leaves must not cancel what others wait for
            fetching = self._fetches[key] = asyncio.create_task(self._fetch(uid))
            fetching.add_done_callback(lambda task: self._end_fetch(key, task))
        file_id = await asyncio.shield(fetching)
        return await self._describe(await self._service.files.get_record(current_tenant(), file_id))

    def _end_fetch(self, key: tuple[str, str], task: "asyncio.Task[str]") -> None:
        del self._fetches[key]
        if not task.cancelled():
            task.exception()  # asyncio would log an error that nobody retrieved

    async def _fetch(self, uid: str) -> str:
        url = self._service.settings.dicomweb_url
        if url is None:
            raise NotAllowed(
                "There is no DICOMweb server to fetch series from.",
                field="image",
                remedy="Send the volume, or ask the operator to set SEGSERVE_DICOMWEB_URL and SEGSERVE_DICOMWEB_HOSTS.",
            )
        fetcher = self._service.dicomweb_fetcher
        study = await fetcher.find_study(url, uid)
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await fetcher.fetch(DicomwebSource(url, study, uid), file)
            record = await self._service.files.add(current_tenant(), file)
        self._series[current_tenant(), uid] = record.file_id
        return record.file_id

    async def _describe(self, record: FileRecord, *, is_own: bool = False, suffix: str = "") -> Volume:
        if record.kind not in (FileKind.VOLUME, FileKind.FRAMES):
            raise BadInput(
                "The file is no volume and no stack of slices.",
                field="file",
                remedy="Send NIfTI, NRRD, MetaImage, DICOM, a TIFF or one picture.",
            )
        view_shape(record, 0)
        geometry = self._geometries.get(record.file_id)
        if geometry is None:
            readers = self._service.files.readers.group()
            async with self._service.files.local_copy(current_tenant(), record.file_id) as (_, path):
                source = SourceFile(FileView(record.file_id), record, path, readers)
                geometry = await readers.run(source.read_geometry)
            self._geometries[record.file_id] = geometry
        extension = ".nrrd" if "nrrd" in (record.format, suffix.removeprefix(".")) else ".nii.gz"
        return Volume(geometry, record, is_own=is_own, extension=extension)

    async def get_slice(self, volume: Volume, k: int, window: Window) -> str:
        """Return the image_id of a slice, which is stored as an image once. Raises as `write_frame` does."""
        if volume.picture is not None:
            return volume.picture.image_id
        assert volume.file is not None
        key = current_tenant(), volume.file.file_id, window, k
        if (image_id := self._slices.get(key)) is not None:
            return image_id
        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            await write_frame(
                self._service, FileView(volume.file.file_id, 0, window), k, cast(BinaryIO, spool)
            )
            image = await self._sent_images.store_file(cast(BinaryIO, spool))
        self._slices[key] = image.image_id
        return image.image_id

    def forget_slice(self, volume: Volume, k: int, window: Window) -> bool:
        """Drop the image_id of a slice, whose image was deleted. Returns whether it can be stored again."""
        return (
            volume.file is not None
            and self._slices.pop((current_tenant(), volume.file.file_id, window, k), None) is not None
        )

    async def delete_own(self, volume: Volume) -> None:
        """Delete the file of a session that has ended, if it is of this session alone."""
        if volume.is_own and volume.file is not None:
            try:
                await self._service.files.delete(current_tenant(), volume.file.file_id)
            except FileNotFound:
                return


def is_picture(file: BinaryIO) -> bool:
    """Return whether a file is one picture, and no stack and no volume. Blocks."""
    try:
        return formats.detect_image_format(file) not in FILE_IMAGE_FORMATS
    except (BadInput, UnsupportedFormat):
        return False


def find_suffix(file: BinaryIO) -> str | None:
    """Return what the name of a volume's file ends with in a zip, None for other files. Blocks."""
    try:
        if formats.detect_image_format(file) is formats.DICOM:
            return DICOM_SUFFIX
    except (BadInput, UnsupportedFormat):
        pass
    try:
        return SUFFIXES.get(detect_volume_format(file) or "")
    except SegserveError:
        return None


def write_own_zip(files: Sequence[BinaryIO], suffixes: Sequence[str], out: BinaryIO) -> None:
    """Write files into a zip. It holds a random text, so that no other upload is the same file. Blocks."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = secrets.token_hex(16).encode()
        for number, (file, suffix) in enumerate(zip(files, suffixes, strict=True)):
            file.seek(0)
            with archive.open(f"{number:06d}{suffix}", "w", force_zip64=True) as entry:
                while chunk := file.read(COPY_CHUNK_BYTES):
                    entry.write(chunk)
