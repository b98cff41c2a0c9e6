"""The files of the page and of the JavaScript client, as browsers fetch them: compressed, and cached for ever.

They are the folders `web`, `js/src` and `js/vendor` below `clients` in the repository; a wheel has them in the package.
Their addresses hold the digest of all of them, /clients/<digest>/web/main.js, so that a new version is fetched at once,
and an old one is never asked for again. Modules import each other by relative paths and need not know it.
"""

import asyncio
import gzip
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

from segserve.errors import NotFound, quote

PACKAGE = Path(__file__).parents[2]
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
}
COMPRESSED = {".css", ".html", ".js", ".mjs", ".svg"}
MIN_GZIP_BYTES = 1024  # a smaller file fits one packet anyway
YEAR_S = 31_536_000
ACCEPTS_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")
INDEX = "web/index.html"
# Loaded before anything asks for them: otherwise the browser finds out module by module, one round trip a level.
PRELOADED = re.compile(
    r"web/(?!vendor/|timeline/).*\.js|web/vendor/lit-html/.*\.js|js/src/((masks|decode)/)?[^/]*\.js"
)


def find_clients_folder() -> Path:
    """Return the folder with `web` and `js`: in the package of a wheel, otherwise in the repository."""
    packaged = PACKAGE / "clients"
    return packaged if packaged.is_dir() else PACKAGE.parents[1] / "clients"


@dataclass(frozen=True)
class PageFile:
    """One file, as it is, compressed, or both. At least one of them is there."""

    media_type: str
    plain: bytes | None
    gzipped: bytes | None

    @cached_property
    def etag(self) -> str:
        return f'"{sha256(self.plain or self.gzipped or b"").hexdigest()[:32]}"'

    @cached_property
    def content(self) -> bytes:
        """The content as it is. Of a file that lies compressed it is unpacked at the first use, which takes 60 ms."""
        return gzip.decompress(self.gzipped or b"") if self.plain is None else self.plain


class PageFiles:
    """All files by their path below `clients`, read once. digest: of all of them."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix().removesuffix(".gz"): read_file(path)
            for part in ("web", "js/src", "js/vendor")
            for path in sorted((folder / part).rglob("*"))
            if suffix_of(path) in MEDIA_TYPES and path.is_file()
        }
        joined = "\n".join(f"{name} {file.etag}" for name, file in self._files.items())
        self.digest = sha256(joined.encode()).hexdigest()[:16]
        self._unpacking = asyncio.Lock()
        self._files[INDEX] = self._make_index(self._files[INDEX])

    def names(self) -> list[str]:
        """Return the paths of all files."""
        return list(self._files)

    def _make_index(self, index: PageFile) -> PageFile:
        """The page with the addresses of this version, and its modules to load at once."""
        base = f"/clients/{self.digest}/"
        links = "\n".join(
            f'<link rel="modulepreload" href="/clients/{name}">'
            for name in self._files
            if PRELOADED.fullmatch(name)
        )
        html = index.content.decode().replace("<!-- modules -->", links).replace("/clients/", base)
        return make_file(html.encode(), ".html")

    async def send_index(self, request: Request, policy: str) -> Response:
        """Answer the page itself, which browsers ask for anew each time."""
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return await self._send(self._files[INDEX], request, headers)

    async def send(self, digest: str, path: str, request: Request) -> Response:
        """Answer a file. A page that was loaded before an upgrade gets the new file. Raises NotFound."""
        file = self._files.get(path)
        if file is None or path == INDEX:
            name = PurePosixPath(path).name
            raise NotFound(f"The page has no file {quote(name)}.", remedy="Reload the page.")
        cache = f"public, max-age={YEAR_S}, immutable" if digest == self.digest else "no-cache"
        return await self._send(file, request, {"Cache-Control": cache})

    async def _send(self, file: PageFile, request: Request, headers: dict[str, str]) -> Response:
        headers = {**headers, "ETag": file.etag, "Vary": "Accept-Encoding"}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if file.gzipped is not None and ACCEPTS_GZIP.search(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(file.gzipped, media_type=file.media_type, headers=headers)
        return Response(await self._read(file), media_type=file.media_type, headers=headers)

    async def _read(self, file: PageFile) -> bytes:
        """Return the content as it is. Whoever asks while it is unpacked waits; the event loop does not."""
        if file.plain is not None:
            return file.plain
        async with self._unpacking:
            return await asyncio.to_thread(lambda: file.content)


def suffix_of(path: Path) -> str:
    """Return the suffix of a file, without that of its compression."""
    return Path(path.name.removesuffix(".gz")).suffix


def read_file(path: Path) -> PageFile:
    """Read a file. What is large lies compressed in the repository, as browsers take it."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        return PageFile(MEDIA_TYPES[suffix_of(path)], None, content)
    return make_file(content, path.suffix)


def make_file(content: bytes, suffix: str) -> PageFile:
    """Compress a file where that makes it smaller."""
    is_worth_it = suffix in COMPRESSED and len(content) >= MIN_GZIP_BYTES
    return PageFile(MEDIA_TYPES[suffix], content, gzip.compress(content, 6, mtime=0) if is_worth_it else None)
