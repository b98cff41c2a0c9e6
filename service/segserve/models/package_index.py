"""Find a file of a Python package index, with the user's own pip configuration: mirrors, proxies, air-gapped folders.

Only addresses are looked up here. `pip download` is not used, because for an sdist it runs the package's build.
"""

import ast
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

import httpx

from segserve.errors import BadInput, NotFound, SegserveError, TooLarge, Unavailable
from segserve.models.download import TIMEOUT_S, Connection, Digest, describe_failure

PYPI = "https://pypi.org/simple"
# Sections of pip's configuration in the order in which a later one overrides an earlier one.
PIP_SECTIONS = ("global", "install", "download", ":env:")
PIP_LINE = re.compile(r"(?P<section>[^.=]+)\.(?P<key>[^=]+)=(?P<value>.*)")
PIP_TIMEOUT_S = 60.0
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.5, text/html;q=0.4"
# PyPI's own page of all files of a large project has a few MB.
MAX_PAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class PipConfiguration:
    """The part of pip's configuration that says where packages come from, and how they are reached.

    indexes: addresses of simple indexes. find_links: addresses of pages, files or folders, which come first.
    """

    indexes: tuple[str, ...] = (PYPI,)
    find_links: tuple[str, ...] = ()
    connection: Connection = field(default_factory=Connection)


@dataclass(frozen=True)
class PackageLocation:
    """The place of a package's file: a path on this machine, or an address with the digest that the index gives."""

    path: Path | None = None
    url: str = ""
    digest: Digest | None = None
    connection: Connection = field(default_factory=Connection)


def read_pip_configuration() -> PipConfiguration:
    """Return the configuration of this environment's pip. Without pip: of the variables PIP_*."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=True)
        return parse_pip_settings(merge_pip_sections(answer.stdout))
    except (OSError, subprocess.SubprocessError):
        return parse_pip_settings(
            {
                name.removeprefix("PIP_").lower().replace("_", "-"): value
                for name, value in os.environ.items()
                if name.startswith("PIP_") and value  # Compose hands empty ones on
            }
        )


def merge_pip_sections(listing: str) -> dict[str, str]:
    """Return the settings by name. listing: what `pip config list` prints, lines such as global.timeout='60'."""
    by_section: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        if match := PIP_LINE.fullmatch(line.strip()):
            try:
                value = str(ast.literal_eval(match["value"]))
            except (ValueError, SyntaxError):
                continue
            by_section.setdefault(match["section"], {})[match["key"]] = value
    return {k: v for section in PIP_SECTIONS for k, v in by_section.get(section, {}).items()}


def parse_pip_settings(settings: Mapping[str, str]) -> PipConfiguration:
    """Return the configuration. settings: by pip's names, such as extra-index-url; lists are separated by spaces."""
    indexes = [settings.get("index-url", PYPI), *settings.get("extra-index-url", "").split()]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = []
    timeout = settings.get("timeout", settings.get("default-timeout", ""))
    connection = Connection(
        certificates=settings.get("cert") or None,
        client_certificate=settings.get("client-cert") or None,
        proxy=settings.get("proxy") or None,
        trusted_hosts=frozenset(settings.get("trusted-host", "").split()),
        timeout_s=float(timeout) if re.fullmatch(r"\d+(\.\d+)?", timeout) else TIMEOUT_S,
    )
    return PipConfiguration(
        tuple(index.strip() for index in indexes), tuple(settings.get("find-links", "").split()), connection
    )


def find_package_file(configuration: PipConfiguration, project: str, file: str) -> PackageLocation:
    """Return the location of a wheel or sdist, from the first place that has it.

    project: the package's name. file: the name of its wheel or sdist.
    Raises NotFound where no place has it, Unavailable where one that might could not be reached.
    """
    normalised = re.sub(r"[-_.]+", "-", project).lower()
    pages = [
        *configuration.find_links,
        *(f"{index.rstrip('/')}/{normalised}/" for index in configuration.indexes),
    ]
    failures: list[SegserveError] = []
    for page in pages:
        try:
            return look_up(page, file, configuration.connection)
        except NotFound:
            continue
        except SegserveError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    places = ", ".join(dict.fromkeys(map(name_place, pages))) or "no index, as pip is configured"
    raise NotFound(f"{file} is not there: {places}.")


def is_address(page: str) -> bool:
    """Whether a page is on the web, and no path of this machine."""
    return urlsplit(page).scheme in ("http", "https")


def name_place(page: str) -> str:
    """Return a place where packages come from as messages tell it: without credentials, and no path."""
    return without_credentials(page) if is_address(page) else "a folder that pip is configured for"


def look_up(page: str, file: str, connection: Connection) -> PackageLocation:
    """Look for a file on a page or in a folder. Raises NotFound, Unavailable, BadInput, TooLarge."""
    parts = urlsplit(page)
    if is_address(page):
        links = read_links(page, connection)
        if file not in links:
            raise NotFound(f"{without_credentials(page)} has no {file}.")
        url, digest = links[file]
        same_host = urlsplit(url).netloc == parts.netloc.rpartition("@")[2]
        return PackageLocation(
            url=url,
            digest=digest,
            connection=connection.with_credentials_of(page) if same_host else connection,
        )
    folder = Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(page).expanduser()
    for path in (folder / file, folder, linked_file(folder / "index.html", file)):
        if path is not None and path.is_file() and path.name == file:
            return PackageLocation(path=path)
    raise NotFound(f"{name_place(page)} has no {file}.")


def linked_file(page: Path, file: str) -> Path | None:
    """Return the path that a page of a local index gives for a file, if there is such a page and it does."""
    if not page.is_file() or page.stat().st_size > MAX_PAGE_BYTES:
        return None
    url, _ = parse_html_page(page.read_text(errors="replace"), page.absolute().as_uri()).get(file, ("", None))
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def read_links(page: str, connection: Connection) -> dict[str, tuple[str, Digest | None]]:
    """Return address and digest of each file on an index's page, by the file's name.

    Raises NotFound, Unavailable, BadInput (not https), TooLarge.
    """
    shown = without_credentials(page)
    connection = connection.with_credentials_of(page)
    body = bytearray()
    try:
        with (
            connection.open_client(shown) as client,
            client.stream("GET", shown, headers={"Accept": ACCEPT}) as response,
        ):
            if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
                raise NotFound(f"{shown} is not there.")
            if response.status_code != httpx.codes.OK:
                raise Unavailable(f"{shown} answered {response.status_code}.")
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise TooLarge(f"{shown} goes on after {MAX_PAGE_BYTES} bytes.")
            base, is_json = str(response.url), "json" in response.headers.get("content-type", "")
    except (httpx.HTTPError, ssl.SSLError) as error:
        raise Unavailable(f"{shown} cannot be reached: {describe_failure(error)}.") from error
    try:
        return parse_json_page(body, base) if is_json else parse_html_page(body.decode(), base)
    except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
        raise Unavailable(f"{shown} is no page of a package index.") from error


def parse_json_page(body: bytes | bytearray, base: str) -> dict[str, tuple[str, Digest | None]]:
    """Parse a page of PEP 691. base: the page's address."""
    links = {}
    for file in json.loads(body)["files"]:
        sha256 = file.get("hashes", {}).get("sha256")
        digest = Digest.parse(f"sha256:{sha256}") if sha256 else None
        links[str(file["filename"])] = (urljoin(base, str(file["url"])), digest)
    return links


def parse_html_page(text: str, base: str) -> dict[str, tuple[str, Digest | None]]:
    """Parse a page of PEP 503, or any page with links to files. base: the page's address."""
    parser = LinkParser()
    parser.feed(text)
    links = {}
    for href in parser.links:
        url, fragment = urldefrag(urljoin(base, href))
        match = re.search(r"sha256=([0-9a-f]{64})", fragment)
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        links[name] = (url, Digest("sha256", match[1]) if match else None)
    return links


class LinkParser(HTMLParser):
    """`LinkParser` collects the addresses of a page's links, as they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, Any]]) -> None:
        if tag == "a":
            self.links += [str(value) for name, value in attrs if name == "href" and value]


def without_credentials(url: str) -> str:
    """Return an address that can be shown: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
