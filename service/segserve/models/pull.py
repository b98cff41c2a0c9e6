"""Fetching published models: download, check the digest, import.

A download goes to `<name>.partial` beside its target. What a broken connection leaves is kept and gone on
with by an HTTP range request, which names the version begun with (If-Range), so that two versions of a file
never mix. A complete file with the wrong digest is deleted.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

import httpx
import xxhash

from segserve.errors import BadInput, BrokenModel, NotFound, TooLarge, Unavailable
from segserve.models.bundle import READ_CHUNK, Bundle
from segserve.models.catalogue import Published, RemoteFile
from segserve.models.importers import About, Importer, import_checkpoint, require_libraries
from segserve.models.importers.onnx_pair import Pair, import_pair
from segserve.models.install import free_place

DOWNLOADS = ".downloads"  # inside the models' folder
SIZE_LIMIT = 8 << 30  # bytes; the largest published checkpoint has 2.6 GB
TIMEOUT_S = 30.0  # without a byte
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

# Bytes so far, and in all if that is known.
OnBytes = Callable[[int, int | None], None]


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


HASHES: dict[str, Callable[[], Hash]] = {"sha256": hashlib.sha256, "xxh128": xxhash.xxh128}


@dataclass(frozen=True)
class Digest:
    """What a file's bytes must hash to."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "sha256:<hex>" or "xxh128:<hex>"."""
        algorithm, _, value = text.partition(":")
        if algorithm not in HASHES or not re.fullmatch(r"[0-9a-f]+", value):
            raise BadInput(f"{text!r} is not a digest.", remedy=f"Known algorithms: {', '.join(HASHES)}.")
        return cls(algorithm, value)

    def matches(self, path: Path) -> bool:
        hashed = HASHES[self.algorithm]()
        with path.open("rb") as file:
            while chunk := file.read(READ_CHUNK):
                hashed.update(chunk)
        return hashed.hexdigest() == self.value


def check_address(url: str) -> None:
    """Raises BadInput unless nobody on the way can change what is fetched: https, or this very machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise BadInput(
            f"{url} is not an https address.", field="url", remedy="Models are fetched by https only."
        )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Partial:
    """The part of a file that has arrived, and which version of it that is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.partial")
        self._version = target.with_name(f"{target.name}.version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def headers(self, url: str) -> dict[str, str]:
        """What asks for the rest; nothing where there is no part, or no telling whether the rest would fit it."""
        if self.size == 0 or not self._version.exists():
            return {}
        begun_with, _, validator = self._version.read_text().partition("\n")
        if begun_with != url or not validator:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, url: str, response: httpx.Response) -> None:
        """Forget what was there; remember the version that comes now, if the server names it."""
        self.remove()
        etag = response.headers.get("etag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified")
        if validator:
            self._version.write_text(f"{url}\n{validator}")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.rename(target)
        self._version.unlink(missing_ok=True)


def download(
    url: str,
    target: Path,
    digest: Digest | None,
    *,
    on_bytes: OnBytes = lambda done, total: None,
    limit_bytes: int = SIZE_LIMIT,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Fetch `url` to `target`, which appears only when it is complete and has the digest.

    Raises NotFound, Unavailable (what has arrived is kept for the next try), TooLarge, BrokenModel (wrong
    digest; nothing is kept), BadInput (not https).
    """
    check_address(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Partial(target)
    with (
        reported(url),
        httpx.Client(follow_redirects=True, timeout=timeout_s, event_hooks=ONLY_SAFE) as client,
    ):
        headers = {"Accept-Encoding": "identity", **partial.headers(url)}
        with client.stream("GET", url, headers=headers) as response:
            try:
                receive(url, response, partial, on_bytes, limit_bytes)
            except TooLarge:
                partial.remove()
                raise
    if digest is not None and not digest.matches(partial.path):
        partial.remove()
        raise BrokenModel(
            f"What came from {url} does not have the published {digest.algorithm} digest; it was deleted.",
            remedy="Try again; if it happens twice, the file was changed at its source: do not use it.",
        )
    partial.finish(target)


# Every address on the way, so that a redirect cannot lead to an unprotected one.
ONLY_SAFE = {"request": [lambda request: check_address(str(request.url))]}


@contextmanager
def reported(url: str) -> Iterator[None]:
    """What httpx raises, as errors of ours."""
    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(
            f"The download of {url} broke off: {error or type(error).__name__}.",
            remedy="Run the command again: it goes on where it stopped.",
        ) from error


def receive(
    url: str, response: httpx.Response, partial: Partial, on_bytes: OnBytes, limit_bytes: int
) -> None:
    """Write the body to `partial`, after what is there if the server agrees."""
    check_status(url, response, partial)
    start = partial.size if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
    if start == 0:
        partial.begin(url, response)
    length = response.headers.get("content-length")
    total = start + int(length) if length is not None and length.isdigit() else None
    if total is not None and total > limit_bytes:
        raise TooLarge(f"{url} has {total} bytes; the limit is {limit_bytes}.")
    done = start
    with partial.path.open("ab") as file:
        for chunk in response.iter_raw():  # as it arrives: a larger buffer would be lost with the connection
            done += len(chunk)
            if done > limit_bytes:
                raise TooLarge(f"{url} goes on after {limit_bytes} bytes, which is the limit.")
            file.write(chunk)
            on_bytes(done, total)
    if total is not None and done < total:
        raise Unavailable(
            f"The download of {url} ended after {done} of {total} bytes.",
            remedy="Run the command again: it goes on where it stopped.",
        )


def check_status(url: str, response: httpx.Response, partial: Partial) -> None:
    """Raises unless the body is the file, or the rest that was asked for."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status == httpx.codes.PARTIAL_CONTENT:
        found = RANGE.fullmatch(response.headers.get("content-range", ""))
        if found and int(found[1]) == partial.size:
            return
    if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        partial.remove()
        raise Unavailable(
            f"{url} does not go on where the last download stopped; what had arrived was deleted.",
            remedy="Run the command again: it starts over.",
        )
    if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise NotFound(
            f"{url} is not there any more ({status}).",
            remedy="Download the checkpoint elsewhere and use: segserve models import.",
        )
    raise Unavailable(f"{url} answered {status}.", remedy="Try again later.")


def pull(
    entry: Published,
    models_dir: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    accept_no_digest: bool = False,
    keep_weights: bool = False,
    on_file: Callable[[RemoteFile], OnBytes] = lambda file: lambda done, total: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Download what `entry` names, check it and make it the bundle `models_dir/name`.

    on_file: called as each download begins, for the callback that hears of its bytes. What was downloaded
    is kept until the import has succeeded. keep_weights: see `import_checkpoint`. Raises as `download` and the
    importers do, and BadInput for weights of what is published as graphs.
    """
    name = name or entry.name
    free_place(models_dir, name, replace=replace)
    if keep_weights and isinstance(entry.kind, Pair):
        raise BadInput(
            f"{entry.name} is published as ONNX graphs, without weights.",
            field="keep_weights",
            remedy="Leave --keep-weights out, or pull a model that is published as a checkpoint.",
        )
    if isinstance(entry.kind, Importer):
        require_libraries(entry.kind)  # before gigabytes are fetched in vain
    for file in entry.files:
        if file.digest is None and not accept_no_digest:
            raise BadInput(
                f"No digest is published for {file.url}, so nothing shows that what arrives is what was published.",
                field="name",
                remedy="Give --no-digest to take it all the same.",
            )
    files = [fetch(entry, file, models_dir / DOWNLOADS, on_file) for file in entry.files]
    about = About(entry.description, entry.licence, entry.source)
    if isinstance(entry.kind, Pair):
        encoder, decoder = files
        bundle = import_pair(
            entry.kind,
            encoder,
            decoder,
            name,
            models_dir,
            architecture=entry.name,
            replace=replace,
            about=about,
            on_stage=on_stage,
        )
    else:
        bundle = import_checkpoint(
            entry.kind,
            files[0],
            name,
            models_dir,
            decoder=files[1] if len(files) > 1 else None,
            replace=replace,
            about=about,
            keep_weights=keep_weights,
            on_stage=on_stage,
        )
    for path in files:
        path.unlink(missing_ok=True)
    return bundle


def fetch(entry: Published, file: RemoteFile, folder: Path, on_file: Callable[[RemoteFile], OnBytes]) -> Path:
    """The file in `folder`, downloaded unless an earlier pull left it there whole."""
    target = folder / f"{entry.name}-{entry.files.index(file)}{suffix(file.url)}"
    digest = Digest.parse(file.digest) if file.digest else None
    if not (target.exists() and digest is not None and digest.matches(target)):
        download(file.url, target, digest, on_bytes=on_file(file))
    return target


def suffix(url: str) -> str:
    return Path(urlsplit(url).path).suffix or ".pt"
