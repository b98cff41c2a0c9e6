"""What a frontend is: the protocol of another tool, under a prefix of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from segserve.app import Service
from segserve.request_limits import RequestKind
from segserve.settings import Settings
from segserve.types import FrontendName
from segserve.wire.frontends.sent_images import SentImages


@dataclass(frozen=True)
class Refusal:
    """What a problem document says, for a frontend to say it in its protocol's own form.

    status: of HTTP. code: stable name of the problem. remedy, field: empty if there is none. path: of the request.
    """

    status: int
    code: str
    detail: str
    remedy: str
    field: str
    path: str

    @property
    def message(self) -> str:
        """What is wrong and what to do about it, for protocols that have one text."""
        return f"{self.detail} {self.remedy}".strip()


@dataclass(frozen=True)
class FrontendParts:
    """What the routes of all frontends are built on."""

    service: Service
    sent_images: SentImages


def no_port(settings: Settings) -> int | None:
    """The port of a frontend whose client can be given a path."""
    return None


@dataclass(frozen=True)
class Frontend:
    """`Frontend` is a protocol that is spoken beside the API.

    prefix: of all its paths, without a slash at its end.
    add_routes: adds them to the API. They are no part of its OpenAPI document.
    write_refusal: returns the status and the JSON of a refusal in the protocol's own form.
    kind_of: returns whose slots a request takes, by its method and path.
    upload_prefixes: of paths whose bodies are files, and may be as large as those of POST /v1/files.
    keeps_sessions: a client's requests must meet the process that has its session.
    own_port: returns the port on which it is served at the root too, None for none; see `own_port.py`.
    """

    name: FrontendName
    prefix: str
    add_routes: Callable[[FastAPI, FrontendParts], None]
    write_refusal: Callable[[Refusal], tuple[int, Any]]
    kind_of: Callable[[str, str], RequestKind]
    upload_prefixes: tuple[str, ...] = ()
    keeps_sessions: bool = False
    own_port: Callable[[Settings], int | None] = no_port

    def has(self, path: str) -> bool:
        """Whether the path is one of this frontend."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")
