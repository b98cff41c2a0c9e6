"""The service keeps to its own OpenAPI document, whatever is sent: schemathesis with every check."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.schema import schemathesis_command
from tests.serving import Server


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """A few requests of each kind. `make fuzz` makes more."""
    command = schemathesis_command(server.url, seed=1, examples=5)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "internal_error" not in server.log.read_text()


def descriptions(document: Any) -> Iterator[str]:
    """All descriptions in a part of an OpenAPI document."""
    if isinstance(document, dict):
        if isinstance(text := document.get("description"), str):
            yield text
        for part in document.values():
            yield from descriptions(part)
    elif isinstance(document, list):
        for part in document:
            yield from descriptions(part)


def test_descriptions_are_for_clients(server: Server) -> None:
    """They name no modules of the service, and do not explain its inside."""
    for text in descriptions(server.client.get("/openapi.json").json()):
        assert "segserve." not in text
        assert len(text) < 800, text
