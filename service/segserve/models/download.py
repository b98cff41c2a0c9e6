"""Download one file over HTTPS: resume what broke off, check the digest.

A download goes to `<name>.partial` beside its target. What a broken connection leaves is kept, and an HTTP range
request fetches the rest. The request names the version that the download began with (If-Range), so two versions of
a file never mix. A complete file with the wrong digest is deleted.
"""

import hashlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

import httpx
import xxhash

from segserve.errors import BadInput, BrokenModel, NotFound, TooLarge, Unavailable
from segserve.models.bundle import READ_CHUNK_BYTES

# The largest published checkpoint has 2.6 GB.
MAX_DOWNLOAD_BYTES = 8 << 30
# The longest wait for the next byte.
TIMEOUT_S = 30.0
# The longest wait for a connection: where one address is not reachable, another may be.
CONNECT_TIMEOUT_S = 15.0
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

# What fails -> how it is told. The first that fits counts, from the innermost cause to the error itself.
FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (
        ssl.SSLCertVerificationError,
        "its certificate is not trusted here; pip's cert or SSL_CERT_FILE says which are",
    ),
    (socket.gaierror, "its name is not known here"),
    (ConnectionRefusedError, "it takes no connections"),
    (httpx.ProxyError, "the proxy refuses it"),
    (httpx.ConnectTimeout, "it does not answer"),
    (httpx.TimeoutException, "nothing has come for too long"),
    (httpx.TooManyRedirects, "it leads to another address again and again"),
    (httpx.NetworkError, "the connection failed"),
    (httpx.ProtocolError, "the connection was closed"),
)

# Called with the bytes so far, and the bytes in all where that is known.
OnBytes = Callable[[int, int | None], None]


class Hash(Protocol):
    """The part of a hashlib object that is used here."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


HASHES: dict[str, Callable[[], Hash]] = {"sha256": hashlib.sha256, "xxh128": xxhash.xxh128}


@dataclass(frozen=True)
class Digest:
    """`Digest` is the hash that a file's bytes must have. value: hexadecimal."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "sha256:<hex>" or "xxh128:<hex>". Raises BadInput."""
        algorithm, _, value = text.partition(":")
        if algorithm not in HASHES or not re.fullmatch(r"[0-9a-f]+", value):
            raise BadInput(f"{text!r} is not a digest.", remedy=f"Known algorithms: {', '.join(HASHES)}.")
        return cls(algorithm, value)

    def matches(self, path: Path) -> bool:
        """Whether the file's bytes have this digest."""
        hashed = HASHES[self.algorithm]()
        with path.open("rb") as file:
            while chunk := file.read(READ_CHUNK_BYTES):
                hashed.update(chunk)
        return hashed.hexdigest() == self.value


def check_https(url: str) -> None:
    """Raise BadInput unless nobody on the way can change what is fetched: https, or this very machine."""
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


@dataclass(frozen=True)
class Connection:
    """`Connection` says how hosts are reached.

    certificates: a file or folder of certificate authorities; None takes the system's.
    client_certificate: a file with a certificate and its key.
    trusted_hosts: hosts, or host:port, that may be reached by http or with any certificate.
    user, password: sent to the first host alone.
    """

    certificates: str | None = None
    client_certificate: str | None = None
    proxy: str | None = None
    trusted_hosts: frozenset[str] = frozenset()
    user: str = ""
    password: str = ""
    timeout_s: float = TIMEOUT_S

    def with_credentials_of(self, url: str) -> "Connection":
        """Return the connection with the user and the password that an address holds."""
        parts = urlsplit(url)
        return replace(self, user=unquote(parts.username or ""), password=unquote(parts.password or ""))

    def trusts(self, url: str) -> bool:
        parts = urlsplit(url)
        return bool({parts.hostname, parts.netloc.rpartition("@")[2]} & self.trusted_hosts)

    def check(self, url: str) -> None:
        """Raise BadInput for an address that somebody on the way could change, unless its host is trusted."""
        if not (urlsplit(url).scheme == "http" and self.trusts(url)):
            check_https(url)

    def open_client(self, url: str) -> httpx.Client:
        """Return a client for `url`. Raises BadInput as `check` does, Unavailable where certificates cannot be read."""
        self.check(url)
        # httpx calls the hook for every request, so a redirect cannot lead to an unprotected address.
        return httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S)),
            event_hooks={"request": [lambda request: self.check(str(request.url))]},
            proxy=self.proxy,
            auth=(self.user, self.password) if self.user else None,
            verify=self.make_ssl_context(url),
        )

    def make_ssl_context(self, url: str) -> ssl.SSLContext:
        certificates = Path(self.certificates) if self.certificates else None
        try:
            context = (
                httpx.create_ssl_context()
                if certificates is None
                else ssl.create_default_context(
                    cafile=None if certificates.is_dir() else str(certificates),
                    capath=str(certificates) if certificates.is_dir() else None,
                )
            )
            if self.client_certificate:
                context.load_cert_chain(self.client_certificate)
        except OSError as error:  # ssl's errors are of this type too
            raise Unavailable(
                "The certificates that pip or SSL_CERT_FILE names cannot be read.",
                remedy="Let pip's cert and client-cert, or SSL_CERT_FILE, name files that are there.",
            ) from error
        if self.trusts(url):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def describe_failure(error: Exception) -> str:
    """Return why a host could not be reached or a transfer ended, as the end of a sentence.

    The libraries' own words name files of this machine, and say little to readers.
    """
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    for cause in reversed(causes):
        for kind, reason in FAILURES:
            if isinstance(cause, kind):
                return reason
    return "the connection failed"


class PartialDownload:
    """`PartialDownload` is the part of a file that has arrived, and the version of the file that it belongs to."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.partial")
        self._version = target.with_name(f"{target.name}.version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def range_headers(self, url: str) -> dict[str, str]:
        """Return the headers that request the rest of the file.

        They are empty where nothing has arrived, or where nothing shows that the rest would fit the part.
        """
        if self.size == 0 or not self._version.exists():
            return {}
        first_url, _, validator = self._version.read_text().partition("\n")
        if first_url != url or not validator:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, url: str, response: httpx.Response) -> None:
        """Start over. Remember the version that arrives now, if the server names it."""
        self.remove()
        etag = response.headers.get("etag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified")
        if validator:
            self._version.write_text(f"{url}\n{validator}")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Move the complete file to `target`."""
        self.path.rename(target)
        self._version.unlink(missing_ok=True)


def download(
    url: str,
    target: Path,
    digest: Digest | None,
    *,
    on_bytes: OnBytes = lambda done, total: None,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    connection: Connection | None = None,
) -> None:
    """Fetch `url` to `target`. The target appears only when the file is complete and has the digest.

    Raises NotFound, Unavailable (what has arrived is kept for the next try), TooLarge, BrokenModel (wrong
    digest; nothing is kept), BadInput (not https).
    """
    connection = connection or Connection()
    connection.check(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialDownload(target)
    with translate_http_errors(url), connection.open_client(url) as client:
        headers = {"Accept-Encoding": "identity", **partial.range_headers(url)}
        with client.stream("GET", url, headers=headers) as response:
            try:
                receive_body(url, response, partial, on_bytes, max_bytes)
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


@contextmanager
def translate_http_errors(url: str) -> Iterator[None]:
    """Raise Unavailable in place of httpx's errors, and of those of certificates."""
    try:
        yield
    except (httpx.HTTPError, ssl.SSLError) as error:
        raise Unavailable(
            f"The download of {url} broke off: {describe_failure(error)}.",
            remedy="Run the command again: it goes on where it stopped.",
        ) from error


def receive_body(
    url: str, response: httpx.Response, partial: PartialDownload, on_bytes: OnBytes, max_bytes: int
) -> None:
    """Write the body to `partial`, after the part that is there if the server sends only the rest.

    Raises as `check_status` does, TooLarge, Unavailable (the body ends early).
    """
    check_status(url, response, partial)
    start = partial.size if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
    if start == 0:
        partial.begin(url, response)
    length = response.headers.get("content-length")
    total = start + int(length) if length is not None and length.isdigit() else None
    if total is not None and total > max_bytes:
        raise TooLarge(f"{url} has {total} bytes; the limit is {max_bytes}.")
    done = start
    with partial.path.open("ab") as file:
        for chunk in response.iter_raw():  # unbuffered: a buffer would be lost with the connection
            done += len(chunk)
            if done > max_bytes:
                raise TooLarge(f"{url} goes on after {max_bytes} bytes, which is the limit.")
            file.write(chunk)
            on_bytes(done, total)
    if total is not None and done < total:
        raise Unavailable(
            f"The download of {url} ended after {done} of {total} bytes.",
            remedy="Run the command again: it goes on where it stopped.",
        )


def check_status(url: str, response: httpx.Response, partial: PartialDownload) -> None:
    """Raise NotFound or Unavailable unless the body is the file, or the rest that was requested."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status == httpx.codes.PARTIAL_CONTENT:
        content_range = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if content_range and int(content_range[1]) == partial.size:
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
