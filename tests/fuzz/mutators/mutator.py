"""The interface of all mutators, and what every answer over HTTP must be."""

import random
import re
from abc import ABC, abstractmethod
from typing import ClassVar

from tests.fuzz.broken import Broken
from tests.fuzz.service import FuzzedService

# Statuses from 500 that are promised: overload, a full store, and an optional package that is not installed.
PROMISED = {503, 507}
MISSING_DEPENDENCY = b"urn:segserve:problem:missing_dependency"
# A request takes seconds, unless the service hangs; a whole image with a fine grid takes longer on a busy machine.
HANG_S = 180.0


class Mutator(ABC):
    """`Mutator` makes inputs and runs them. An input alone decides what is sent, so that its file repeats it."""

    name: ClassVar[str]

    @abstractmethod
    def make(self, rng: random.Random) -> bytes:
        """Return a new input."""

    @abstractmethod
    def run(self, data: bytes, service: FuzzedService) -> str:
        """Give an input to the service. Return what became of it, to count. Raises Broken."""

    def close(self) -> None:  # noqa: B027
        """End what the mutator has started."""


def check_status(status: int, body: bytes, service: FuzzedService) -> str:
    """Return the status as text. Raises Broken where it, or what is said, is not promised."""
    if status >= 500 and status not in PROMISED and not (status == 501 and MISSING_DEPENDENCY in body):
        raise Broken("status", str(status), body[:2000].decode("utf-8", "replace"))
    check_secrets(body, service)
    return str(status)


def check_secrets(text: bytes, service: FuzzedService) -> None:
    """Raise Broken where an answer has a path of the server, or a traceback."""
    if str(service.data_dir).encode() in text or re.search(
        rb"Traceback \(most|site-packages|/segserve/\w+/", text
    ):
        raise Broken("secret", "an answer has a path of the server", text[:2000].decode("utf-8", "replace"))
