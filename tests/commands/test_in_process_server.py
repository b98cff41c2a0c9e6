"""The service in the command's own process."""

from pathlib import Path

import httpx
import pytest

from segserve.commands.in_process_server import run_in_process_server
from segserve.errors import SegserveError


def test_it_ends_with_its_block(tmp_path: Path) -> None:
    with run_in_process_server(tmp_path) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def test_an_error_at_its_start_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_PRELOAD", "starter")
    with pytest.raises(SegserveError, match="preload"), run_in_process_server(tmp_path):
        pass
