"""Requests as values: what is sent, and how the answer is read. Both transports send them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from segserve_client.uploads import Upload

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request of HTTP.

    is_repeatable: sending it twice does what sending it once does, so it may be repeated when its answer was lost.
    begins: it begins work and is not in the middle of some; a part of the service that is away is then not waited for.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    begins: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer of HTTP that has no error. headers: with small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and the function that makes a value of its answer.

    parse: raises ValueError, KeyError or TypeError where the answer is not that of a segserve.
    """

    request: Request
    parse: Callable[[Answer], T]
