"""Fetch a DICOM study or series from a DICOMweb server, from allowed hosts only (PS3.18: WADO-RS, QIDO-RS).

The instances arrive as the parts of one multipart/related body. They are written to a zip as they are: nothing here
parses DICOM. The zip's entries are sorted by their digests and have no times, so the same instances make the same
bytes, and so the same file_id. See `outbound_http` for the SSRF protection. There are no redirects: they could carry
the Authorization header to another host.
"""

import asyncio
import hashlib
import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import httpx
import orjson
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from segserve.errors import BadInput, TooLarge
from segserve.outbound_http import (
    HostAllowlist,
    Resolve,
    UrlPurpose,
    describe_status,
    parse_url,
    resolve_host,
)
from segserve.temporary_files import translate_disk_full
from segserve.types import MB

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# "*": as they are stored, without transcoding. "identity": a compressed body could unpack to more than the limit.
HEADERS = {
    "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*',
    "Accept-Encoding": "identity",
}
SEARCH_HEADERS = {"Accept": "application/dicom+json"}
# The tags of StudyInstanceUID and SeriesInstanceUID.
STUDY_TAG = "0020000D"
SERIES_TAG = "0020000E"
# One series is searched for. What a server tells of it takes a few thousand bytes.
MAX_SEARCH_BYTES = 1 << 20
MAX_INSTANCES = 100_000
MAX_UID_CHARS = 64
UID = re.compile(r"[0-9.]{1,64}")
COPY_CHUNK_BYTES = 1 << 20
DICOMWEB_FETCH = UrlPurpose(
    field="dicomweb.url",
    disabled="Fetching from DICOMweb servers is off.",
    denied="DICOM may not be fetched from",
    failed="The series cannot be fetched.",
    alternative="send a zip of the files",
    settings_prefix="SEGSERVE_DICOMWEB",
)


@dataclass(frozen=True)
class DicomwebSource:
    """`DicomwebSource` names what to fetch.

    url: of the server, to which /studies/... is added. series: None for all of the study.
    """

    url: str
    study: str
    series: str | None = None


class DicomwebFetcher:
    """`DicomwebFetcher` downloads studies and series from allowed hosts.

    hosts, private: as `HostAllowlist` takes them.
    authorization: the value of the Authorization header that all of them get, or None.
    timeout_s: limit for one whole fetch.
    max_bytes: limit for all instances together.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        private: bool,
        authorization: str | None,
        timeout_s: float,
        max_bytes: int,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._hosts = HostAllowlist(hosts, private=private, purpose=DICOMWEB_FETCH, resolve=resolve)
        self._headers = HEADERS | ({"Authorization": authorization} if authorization else {})
        self._timeout_s, self._max_bytes = timeout_s, max_bytes

    async def fetch(self, source: DicomwebSource, into: BinaryIO) -> None:
        """Write a zip of the instances to `into`. Raises BadInput, NotAllowed, FetchFailed, TooLarge, StorageFull."""
        self._hosts.check_enabled()
        url = build_url(source)
        with translate_disk_full(), tempfile.TemporaryFile() as file:
            parts = _Parts(file, self._max_bytes)
            try:
                async with (
                    asyncio.timeout(self._timeout_s),
                    self._hosts.request("GET", url, self._headers) as response,
                ):
                    await self._read(response, parts)
            except TimeoutError:
                raise DICOMWEB_FETCH.fetch_failed(
                    f"The fetch took longer than {self._timeout_s:g} s."
                ) from None
            await asyncio.to_thread(parts.write_zip, into)

    async def find_study(self, url: str, series: str) -> str:
        """Return the UID of the study that a series belongs to, by QIDO-RS (PS3.18, 10.6).

        Raises BadInput where the server has no such series, and as `fetch` does.
        """
        self._hosts.check_enabled()
        check_uid(series, "dicomweb.series")
        base = parse_url(url, DICOMWEB_FETCH)
        query = f"SeriesInstanceUID={series}&includefield={STUDY_TAG}"
        search = base.copy_with(path=base.path.rstrip("/") + "/series", query=query.encode(), fragment=None)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._hosts.request("GET", search, self._headers | SEARCH_HEADERS) as response,
            ):
                check_status(response, (200, 204))
                answer = await read_search(response)
        except TimeoutError:
            raise DICOMWEB_FETCH.fetch_failed(f"The search took longer than {self._timeout_s:g} s.") from None
        if (study := find_study_uid(answer, series)) is None:
            raise BadInput(
                f"The DICOMweb server has no series {series}.",
                field="dicomweb.series",
                remedy="Send the UID of a series that the server has.",
            )
        return study

    async def _read(self, response: httpx.Response, parts: "_Parts") -> None:
        """Of what the other host says, only its status is passed on."""
        check_status(response, (200,))
        boundary = find_boundary(response.headers.get("content-type", ""))
        try:
            parser = MultipartParser(boundary, parts.callbacks())
            async for chunk in response.aiter_raw():
                parser.write(chunk)
                parts.check()
            parser.finalize()
        except MultipartParseError:
            raise DICOMWEB_FETCH.fetch_failed("The server's answer is no multipart body.") from None
        except httpx.HTTPError:
            raise DICOMWEB_FETCH.fetch_failed("The server broke off in the middle.") from None
        parts.check_ended()


class _Parts:
    """`_Parts` are instances in a file, one after the other: what a multipart parser hands over."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._size = 0
        self._digest = hashlib.sha256()
        self._start = 0
        self._parts: list[tuple[str, int, int]] = []
        self._has_ended = False

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._digest, self._start = hashlib.sha256(), self._size

    def _add(self, data: bytes, start: int, end: int) -> None:
        part = data[start:end]
        self._size += len(part)
        if self._size <= self._max_bytes:
            self._digest.update(part)
            self._file.write(part)

    def _end(self) -> None:
        self._parts.append((self._digest.hexdigest(), self._start, self._size - self._start))

    def _finish(self) -> None:
        self._has_ended = True

    def check(self) -> None:
        """Raises TooLarge."""
        if self._size > self._max_bytes:
            raise TooLarge(
                f"The instances are over {self._max_bytes / MB:g} MB.",
                field="dicomweb",
                remedy="Fetch one series of the study, or ask the operator to raise SEGSERVE_MAX_FILE_MB.",
            )
        if len(self._parts) > MAX_INSTANCES:
            raise TooLarge(
                f"There are over {MAX_INSTANCES} instances.", field="dicomweb", remedy="Fetch one series."
            )

    def check_ended(self) -> None:
        """Raises FetchFailed."""
        if not self._has_ended:
            raise DICOMWEB_FETCH.fetch_failed("The server broke off in the middle.")
        if not self._parts:
            raise DICOMWEB_FETCH.fetch_failed("The server's answer has no instances.")

    def write_zip(self, into: BinaryIO) -> None:
        """Write the instances to a zip, uncompressed. Blocks."""
        with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as out:
            for number, (_, start, size) in enumerate(sorted(self._parts)):
                info = zipfile.ZipInfo(f"{number:06d}.dcm")  # its time is that of the first MS-DOS
                with out.open(info, "w") as entry:
                    self._file.seek(start)
                    while size and (chunk := self._file.read(min(size, COPY_CHUNK_BYTES))):
                        entry.write(chunk)
                        size -= len(chunk)


def check_status(response: httpx.Response, expected: tuple[int, ...]) -> None:
    """Raises NotAllowed, FetchFailed."""
    described = f"The server answered with status {describe_status(response.status_code)}."
    if response.status_code in (401, 403):
        raise DICOMWEB_FETCH.not_allowed(described, "set SEGSERVE_DICOMWEB_AUTHORIZATION")
    if response.status_code not in expected:
        raise DICOMWEB_FETCH.fetch_failed(described)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise DICOMWEB_FETCH.fetch_failed("The server compressed its answer against the request.")


async def read_search(response: httpx.Response) -> Any:
    """Return the JSON of a search, None for an empty answer. Raises FetchFailed."""
    data = b""
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > MAX_SEARCH_BYTES:
                raise DICOMWEB_FETCH.fetch_failed("The server's answer to a search is too long.")
        return orjson.loads(data) if data else None
    except httpx.HTTPError:
        raise DICOMWEB_FETCH.fetch_failed("The server broke off in the middle.") from None
    except orjson.JSONDecodeError:
        raise DICOMWEB_FETCH.fetch_failed("The server's answer to a search is no JSON.") from None


def find_study_uid(answer: Any, series: str) -> str | None:
    """Return the study of a series from the answer to a search, DICOM JSON (PS3.18, F.2)."""
    for entry in answer if isinstance(answer, list) else []:
        # A server that knows no such search answers all its series.
        if read_uid(entry, SERIES_TAG) in (series, None) and (study := read_uid(entry, STUDY_TAG)):
            return study
    return None


def read_uid(entry: Any, tag: str) -> str | None:
    try:
        uid = entry[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return None
    return uid if isinstance(uid, str) and UID.fullmatch(uid) else None


def check_uid(uid: str, field: str) -> None:
    """Raises BadInput."""
    if not UID.fullmatch(uid):
        raise BadInput(
            f"{uid[:MAX_UID_CHARS]!r} is no UID.", field=field, remedy="Send digits with dots between."
        )


def build_url(source: DicomwebSource) -> httpx.URL:
    """Return the URL of the study or series. Raises BadInput."""
    check_uid(source.study, "dicomweb.study")
    if source.series is not None:
        check_uid(source.series, "dicomweb.series")
    url = parse_url(source.url, DICOMWEB_FETCH)
    path = url.path.rstrip("/") + f"/studies/{source.study}"
    if source.series is not None:
        path += f"/series/{source.series}"
    return url.copy_with(path=path, query=None, fragment=None)


def find_boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart/related body. Raises FetchFailed."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise DICOMWEB_FETCH.fetch_failed("The server does not answer as a DICOMweb server does.")
    encoded = boundary.encode("ascii", "replace")
    if not 0 < len(encoded) <= 200:
        raise DICOMWEB_FETCH.fetch_failed("The server does not answer as a DICOMweb server does.")
    return encoded
