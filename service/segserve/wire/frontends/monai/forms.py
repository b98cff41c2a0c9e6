"""Multipart bodies of MONAI Label's clients: the JSON `params`, and files."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from segserve.errors import BadInput
from segserve.temporary_files import translate_disk_full
from segserve.wire.http.media_type import read_media_type

MAX_FILES = 2
MAX_SESSION_FILES = 128
MAX_FIELDS = 16


@dataclass(frozen=True)
class SentFile:
    """`SentFile` is a file of a form. name: as the client calls it, without folders."""

    name: str
    file: BinaryIO

    @property
    def extension(self) -> str:
        """All suffixes of the name, such as .nii.gz."""
        return "".join(PurePosixPath(self.name).suffixes[-2:])


class Form:
    """`Form` is the body of a request."""

    def __init__(self, data: FormData) -> None:
        self._data = data

    def text(self, name: str, default: str) -> str:
        """Return a field of text."""
        value = self._data.get(name)
        return value if isinstance(value, str) and value else default

    def file(self, name: str) -> SentFile | None:
        """Return the file of a field, None where there is none."""
        files = self.files(name)
        return files[0] if files else None

    def need_file(self, name: str) -> SentFile:
        """Raises BadInput."""
        if (file := self.file(name)) is None:
            raise BadInput("The form has no file.", field=name, remedy=f"Send it as field {name!r}.")
        return file

    def files(self, name: str) -> list[SentFile]:
        """Return all files of a field."""
        return [
            SentFile((value.filename or name).replace("\\", "/").rpartition("/")[2][:255], value.file)
            for value in self._data.getlist(name)
            if isinstance(value, UploadFile)
        ]


class FormParser(MultiPartParser):
    """`FormParser` keeps little of each file in memory, and the rest in a temporary file: a session has many files."""

    spool_max_size = 64 << 10


@asynccontextmanager
async def open_form(request: Request, max_files: int = MAX_FILES) -> AsyncIterator[Form]:
    """Read a form, whose files are open while the block runs. Raises HTTPException for one that is broken."""
    with translate_disk_full():
        if read_media_type(request.headers.raw) != "multipart/form-data":
            async with request.form(max_fields=MAX_FIELDS) as data:
                yield Form(data)
            return
        async with aclosing(request.stream()) as stream:
            parser = FormParser(request.headers, stream, max_files=max_files, max_fields=MAX_FIELDS)
            try:
                data = await parser.parse()
            except MultiPartException as error:
                raise HTTPException(400, error.message) from None
        try:
            yield Form(data)
        finally:
            await data.close()
