"""Sequences of QuPath, slices or time points: the pictures come one by one, then the prompts.

A job follows the objects. The client names a sequence by a text of its own. It is a key of a session here, and
nothing else.
"""

import asyncio
import re
import secrets
import zipfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, Any, BinaryIO, cast

import orjson

from segserve.current_client import Client, current_client
from segserve.errors import BadInput, NotFound, SegserveError, TooLarge, quote
from segserve.identity.identity import current_tenant
from segserve.masks import crop, rle
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileKind, FileRecord, FrontendName
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.qupath.bodies import MAX_FRAMES, SequenceBody
from segserve.wire.frontends.qupath.features import to_feature
from segserve.wire.frontends.sent_images import decode_base64
from segserve.wire.frontends.sessions import SessionNotFound, Sessions
from segserve.wire.http.limits import SPOOL_BYTES
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.run_job import run_job
from segserve.wire.schemas.jobs import JobIn

Json = dict[str, Any]

# The name of an uploaded picture: its number, padded with zeros.
PICTURE_NAME = re.compile(r"(\d{1,9})\.jpe?g", re.IGNORECASE)


@dataclass
class Sequence:
    """The pictures of a sequence that is being uploaded.

    file: a zip of them, without a name on disk, so that it is gone with the process. numbers: of the pictures in it.
    lock: pictures come at the same time.
    """

    file: IO[bytes] = field(default_factory=TemporaryFile)
    numbers: set[int] = field(default_factory=set)
    held_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, number: int, data: bytes) -> None:
        """Add a picture. Blocks."""
        with translate_disk_full(), zipfile.ZipFile(self.file, "a", zipfile.ZIP_STORED) as archive:
            if not self.numbers:
                make_unique(archive)
            archive.writestr(name_picture(number), data)
        self.numbers.add(number)


class Sequences:
    """`Sequences` takes the pictures of sequences, and answers what follows objects through them."""

    def __init__(self, parts: FrontendParts) -> None:
        self._service = parts.service
        self._sessions: Sessions[Sequence] = Sessions(parts.service, FrontendName.QUPATH, self._close)
        self._held_bytes = 0  # of all sequences
        # By the client and the name that it has given.
        self._ids: dict[tuple[Client, str], str] = {}

    async def add_picture(self, name: str, file_name: str, data: bytes) -> None:
        """Add a picture to a sequence, which begins with its first. Raises BadInput, TooLarge, Busy."""
        _ = self._service.jobs  # raises where there are none, before anything is kept
        number = read_number(file_name)
        with self._sessions.use(self._find_or_open(name)) as sequence:
            async with sequence.lock:
                if number in sequence.numbers:
                    raise BadInput(
                        f"Picture {number} was sent before.", field="file", remedy="Send each once."
                    )
                max_mb = self._service.settings.max_file_mb
                if len(sequence.numbers) >= MAX_FRAMES or self._held_bytes + len(data) > max_mb * MB:
                    raise TooLarge(
                        f"A sequence has at most {MAX_FRAMES} pictures, and all that are sent have {max_mb} MB.",
                        field="file",
                        remedy="Annotate fewer planes at a time, or zoom out.",
                    )
                self._held_bytes += len(data)
                sequence.held_bytes += len(data)
                await asyncio.to_thread(sequence.add, number, data)

    async def _close(self, sequence: Sequence) -> None:
        """Give back the disk that the pictures take."""
        async with sequence.lock:
            self._held_bytes -= sequence.held_bytes
            sequence.file.close()

    def _find_or_open(self, name: str) -> str:
        key = (current_client.get(), name)
        session_id = self._ids.get(key)
        if session_id is not None:
            with suppress(SessionNotFound):
                self._sessions.idle_left_s(session_id)
                return session_id
        for other in [k for k, value in self._ids.items() if not self._sessions.is_open(value)]:
            del self._ids[other]
        self._ids[key] = self._sessions.open(Sequence())
        return self._ids[key]

    async def follow(self, body: SequenceBody, model: str) -> list[Json]:
        """Return the features of all objects on all pictures. The sequence ends with it.

        Raises BadInput, NotFound, and what `run_job` raises.
        """
        record = await (
            self._store_sent(body) if body.dirname is None else self._store_uploaded(body.dirname)
        )
        try:
            job = await run_job(self._service, await asyncio.to_thread(build_job, body, model, record))
            lines = await self._service.jobs.queue.read_results(current_tenant(), job.job_id)
            return await write_features(lines, body, model, record)
        finally:
            # Also where the client has left, when nothing can be awaited here any more.
            self._service.run_in_background(
                self._service.leased_files.delete(current_tenant(), record.file_id)
            )

    async def _store_uploaded(self, name: str) -> FileRecord:
        session_id = self._ids.pop((current_client.get(), name), None)
        if session_id is None:
            raise no_sequence(name)
        try:
            with self._sessions.use(session_id) as sequence:
                async with sequence.lock:
                    sequence.file.seek(0)
                    record = await self._service.leased_files.add(
                        current_tenant(), cast(BinaryIO, sequence.file)
                    )
                    count = len(sequence.numbers)
        except SessionNotFound:
            raise no_sequence(name) from None
        finally:
            with suppress(SessionNotFound):
                self._sessions.end(session_id)
        return await self._check_count(record, count)

    async def _store_sent(self, body: SequenceBody) -> FileRecord:
        if not body.b64imgs:
            raise BadInput("There are no pictures.", field="dirname", remedy="Upload some, or send b64imgs.")
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await asyncio.to_thread(write_zip, body.b64imgs, file)
            file.seek(0)
            record = await self._service.leased_files.add(current_tenant(), file)
        return await self._check_count(record, len(body.b64imgs))

    async def _check_count(self, record: FileRecord, count: int) -> FileRecord:
        """Return the record if it holds so many frames, else delete it. Raises BadInput."""
        if record.kind is FileKind.FRAMES and record.count == count:
            return record
        with suppress(SegserveError):
            await self._service.leased_files.delete(current_tenant(), record.file_id)
        raise BadInput(
            "The pictures are no frames of a sequence.", field="dirname", remedy="Send pictures of one size."
        )


def no_sequence(name: str) -> NotFound:
    return NotFound(
        f"There is no sequence {quote(name)}; it may have ended.",
        field="dirname",
        remedy="Upload the pictures again.",
    )


def read_number(file_name: str) -> int:
    """Return the number that a picture's name says. Raises BadInput."""
    if (found := PICTURE_NAME.fullmatch(file_name)) is None:
        raise BadInput(
            f"The name {quote(file_name)} is no number of a picture.",
            field="file",
            remedy="Name pictures 000.jpg, 001.jpg and so on.",
        )
    return int(found[1])


def name_picture(number: int) -> str:
    return f"{number:09d}.jpg"


def make_unique(archive: zipfile.ZipFile) -> None:
    """Make no other upload the same file: this one is deleted when its job has ended."""
    archive.comment = secrets.token_hex(16).encode()


def write_zip(pictures: list[str], file: BinaryIO) -> None:
    """Write pictures, base64, into a zip. Blocks. Raises BadInput."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        make_unique(archive)
        for number, text in enumerate(pictures):
            archive.writestr(name_picture(number), decode_base64(text, f"b64imgs.{number}"))


def build_job(body: SequenceBody, model: str, record: FileRecord) -> JobIn:
    """Return the job that follows the objects, before and behind their prompts. Blocks. Raises BadInput."""
    prompts: dict[int, list[Json]] = {}
    for frame, items in sorted(body.objs.items()):
        if frame >= record.count:
            raise BadInput(
                f"There is no picture {frame}.",
                field="objs",
                remedy=f"Prompt on pictures 0 to {record.count - 1}.",
            )
        for item in items:
            prompts.setdefault(item.obj_id, []).append({"frame": frame, **item.to_prompt()})
    content = {
        "kind": "video",
        "model": model,
        "priority": "interactive",
        "input": {"file_id": record.file_id},
        "params": {
            "direction": "both",
            # Objects are numbered from 1 here, and from 0 there.
            "objects": [{"object_id": number + 1, "prompts": each} for number, each in prompts.items()],
        },
    }
    return validate_body(JobIn, orjson.dumps(content))


async def write_features(
    lines: AsyncIterator[bytes], body: SequenceBody, model: str, record: FileRecord
) -> list[Json]:
    """Return the features of all objects on the pictures that are asked for."""
    first = body.start_frame_idx or 0
    last = record.count - 1 if body.max_frame_num_to_track is None else first + body.max_frame_num_to_track

    def write(line: bytes) -> list[Json]:
        frame: Json = orjson.loads(line)
        if not first <= frame["frame"] <= last:
            return []
        z, t = (frame["frame"], body.plane_position)[:: 1 if body.axes == "XYZ" else -1]
        features = []
        for item in frame["objects"]:
            mask = crop.from_mask(rle.decode(item["mask"]["counts"], record.size))
            if (feature := to_feature(mask, None, item["object_id"] - 1, model)) is not None:
                feature["geometry"]["plane"] = {"c": -1, "z": z, "t": t}
                features.append(feature)
        return features

    features: list[Json] = []
    async for line in lines:
        features += await asyncio.to_thread(write, line)
    return features
