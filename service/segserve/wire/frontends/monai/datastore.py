"""Images and labels that clients keep here: /datastore. They stay until somebody deletes them.

An image is a folder of the object store, by the hash of its name: `image.json`, `image.bytes`, and for each tag of a
label `labels/TAG.json` and `labels/TAG.bytes`. Bytes are written first: what has no JSON does not exist.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import orjson

from segserve.app import Service
from segserve.errors import BadInput, NotFound
from segserve.files.fetch_dicomweb import UID
from segserve.identity.identity import current_tenant
from segserve.store import object_paths
from segserve.temporary_files import translate_disk_full
from segserve.wire.frontends.monai.forms import SentFile
from segserve.wire.frontends.monai.volumes import find_suffix, is_picture
from segserve.wire.http.limits import SPOOL_BYTES

Json = dict[str, Any]

# The tag of labels that users submit, and of those that models make.
FINAL_TAG = "final"
ORIGINAL_TAG = "original"
TAG_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
EXTENSION_PATTERN = re.compile(r"(\.[A-Za-z0-9]{1,10}){0,2}")
MAX_NAME_CHARS = 255
MAX_INFO_BYTES = 64 << 10
# Records that are read at the same time for a list.
READ_AT_ONCE = 16


@dataclass
class Record:
    """`Record` says what an image or a label is. extension: of its file, such as .nii.gz; empty where there is none.

    digest: sha256 of the file.
    """

    name: str
    extension: str
    digest: str
    created_at: float = field(default_factory=time.time)
    info: Json = field(default_factory=dict)

    def to_json(self) -> bytes:
        return orjson.dumps(
            {
                "name": self.name,
                "extension": self.extension,
                "digest": self.digest,
                "created_at": self.created_at,
                "info": self.info,
            }
        )

    def describe(self) -> Json:
        """Return what clients see of it."""
        return {**self.info, "name": f"{self.name}{self.extension}", "ts": int(self.created_at)}


class Datastore:
    """`Datastore` keeps images by the names that clients give them, and labels by tags. All clients of a tenant
    share it."""

    def __init__(self, service: Service) -> None:
        self._objects, self._quota = service.storage.objects, service.storage.images.quota

    async def put_image(self, name: str, file: SentFile, info: Json) -> None:
        """Keep an image, in the place of one with the same name. Raises BadInput, TooLarge, StorageFull."""
        check_name(name)
        await self._put(f"{self._folder(name)}image", name, file, info)

    async def put_label(self, name: str, tag: str, file: SentFile, info: Json) -> None:
        """Keep a label of an image, in the place of one with the same tag.

        An image that was never sent is one of a DICOMweb server, by its UID. Raises NotFound, and as `put_image`.
        """
        check_name(name)
        check_tag(tag)
        if await self._read(f"{self._folder(name)}image") is None:
            if not UID.fullmatch(name):
                raise image_not_found(name)
            record = Record(name, "", "", info={"SeriesInstanceUID": name})
            await self._put_record(f"{self._folder(name)}image", record)
        await self._put(f"{self._folder(name)}labels/{tag}", name, file, info)

    async def _put(self, path: str, name: str, file: SentFile, info: Json) -> None:
        if not EXTENSION_PATTERN.fullmatch(file.extension) or not await asyncio.to_thread(
            is_readable, file.file
        ):
            raise BadInput(
                "The file is no volume and no picture.",
                field="file",
                remedy="Send NIfTI, NRRD, MetaImage, DICOM or PNG.",
            )
        digest, size = await asyncio.to_thread(digest_file, file.file)
        async with self._quota.reserve(current_tenant(), size):
            await self._objects.put(f"{path}.bytes", file.file)
            record = Record(name, file.extension, digest, info=info)
            await self._objects.put(f"{path}.json", record.to_json())

    async def get_image(self, name: str) -> Record:
        """Raises NotFound."""
        if (record := await self._read(f"{self._folder(name)}image")) is None:
            raise image_not_found(name)
        return record

    async def get_label(self, name: str, tag: str) -> Record:
        """Raises NotFound."""
        check_tag(tag)
        if (record := await self._read(f"{self._folder(name)}labels/{tag}")) is None:
            raise NotFound(
                f"The image {name!r} has no label {tag!r}.",
                field="label",
                remedy="See /datastore/?output=all.",
            )
        return record

    async def stream(self, name: str, tag: str | None = None) -> AsyncIterator[bytes]:
        """Return the bytes of an image, or of its label with this tag. Raises NotFound."""
        parts = None
        if tag is None or TAG_PATTERN.fullmatch(tag):
            path = "image" if tag is None else f"labels/{tag}"
            parts = await self._objects.stream(f"{self._folder(name)}{path}.bytes")
        if parts is None:
            raise image_not_found(name)
        return parts

    @asynccontextmanager
    async def open_image(self, name: str) -> AsyncIterator[BinaryIO]:
        """Open the file of an image. Raises NotFound."""
        parts = await self.stream(name)
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for part in parts:
                spool.write(part)
            yield cast(BinaryIO, spool)

    async def update_info(self, name: str, tag: str | None, info: Json) -> Json:
        """Add to what is known of an image, or of its label. Raises NotFound, BadInput, TooLarge."""
        record = await self.get_image(name) if tag is None else await self.get_label(name, tag)
        record.info = check_info({**record.info, **info})
        path = "image" if tag is None else f"labels/{tag}"
        await self._put_record(f"{self._folder(name)}{path}", record)
        return record.describe()

    async def _put_record(self, path: str, record: Record) -> None:
        data = record.to_json()
        async with self._quota.reserve(current_tenant(), len(data), field="params"):
            await self._objects.put(f"{path}.json", data)

    async def delete_image(self, name: str) -> None:
        """Delete an image and its labels. Raises NotFound."""
        await self.get_image(name)
        await self._delete(self._folder(name))

    async def delete_label(self, name: str, tag: str) -> None:
        """Raises NotFound."""
        await self.get_label(name, tag)
        await self._delete(f"{self._folder(name)}labels/{tag}.")

    async def _delete(self, prefix: str) -> None:
        # By folder: a store lists whole names only.
        stored = [
            each
            for each in await self._objects.list(f"{prefix.rpartition('/')[0]}/")
            if each.path.startswith(prefix)
        ]
        # The records first: from then on it does not exist.
        await self._objects.delete([each.path for each in stored if each.path.endswith(".json")])
        await self._objects.delete([each.path for each in stored if not each.path.endswith(".json")])
        await self._quota.release(current_tenant(), sum(each.size for each in stored))

    async def describe_all(self) -> dict[str, Json]:
        """Return all images with their labels, by name, as MONAI Label's datastore has them."""
        paths = [path for path in await self._list() if path.endswith(".json")]
        slots = asyncio.Semaphore(READ_AT_ONCE)

        async def read(path: str) -> Record | None:
            async with slots:
                return await self._read(path.removesuffix(".json"))

        records = zip(paths, await asyncio.gather(*map(read, paths)), strict=True)
        images: dict[str, Json] = {}
        for path, record in sorted(records, key=lambda item: item[0]):  # "image.json" before "labels/"
            if record is None:
                continue
            described = {"ext": record.extension, "info": record.describe()}
            if path.endswith("/image.json"):
                images[record.name] = {"image": described, "labels": {}}
            elif record.name in images:
                tag = path.rpartition("/")[2].removesuffix(".json")
                images[record.name]["labels"][tag] = described
        return images

    async def count(self) -> Json:
        """Return how many images there are, and how many have a label that a user has submitted."""
        paths = await self._list()
        tags: dict[str, int] = {}
        for path in paths:
            if path.endswith(".json") and "/labels/" in path:
                tag = path.rpartition("/")[2].removesuffix(".json")
                tags[tag] = tags.get(tag, 0) + 1
        total = sum(path.endswith("/image.json") for path in paths)
        return {"total": total, "completed": tags.get(FINAL_TAG, 0), "label_tags": tags, "train": []}

    async def _list(self) -> list[str]:
        return [each.path for each in await self._objects.list(object_paths.datastore(current_tenant()))]

    async def _read(self, path: str) -> Record | None:
        data = await self._objects.get(f"{path}.json")
        return None if data is None else Record(**orjson.loads(data))

    def _folder(self, name: str) -> str:
        key = sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
        return object_paths.datastore_image(current_tenant(), key)


def check_name(name: str) -> None:
    """Check the name of an image: other clients make names of files of it, on their own machines. Raises BadInput."""
    is_path = "/" in name or "\\" in name or name.startswith(".")
    if is_path or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise BadInput(
            "That is no name of an image.",
            field="image",
            remedy=f"Send 1 to {MAX_NAME_CHARS} characters that can be printed, without folders and no dot in front.",
        )


def check_tag(tag: str) -> None:
    """Raises BadInput."""
    if not TAG_PATTERN.fullmatch(tag):
        raise BadInput(
            "That is no tag.",
            field="tag",
            remedy="Send up to 64 letters, digits, '-' and '_'; 'final' is usual.",
        )


def check_info(info: Any) -> Json:
    """Return what a client says of an image or a label. Raises BadInput."""
    if not isinstance(info, dict) or len(orjson.dumps(info, default=str)) > MAX_INFO_BYTES:
        raise BadInput(
            "It is no JSON object of at most 64 KiB.", field="params", remedy="Send a smaller JSON object."
        )
    return info


def image_not_found(name: str) -> NotFound:
    return NotFound(
        f"There is no image {name[:MAX_NAME_CHARS]!r} in the datastore.",
        field="image",
        remedy="Upload it: PUT /datastore/image.",
    )


def is_readable(file: BinaryIO) -> bool:
    """Return whether a file is a volume or a picture, by its first bytes. Blocks."""
    return find_suffix(file) is not None or is_picture(file)


def digest_file(file: BinaryIO) -> tuple[str, int]:
    """Return the sha256 of a file and its size, and go back to its beginning. Blocks."""
    digest, size = sha256(), 0
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return digest.hexdigest(), size
