"""Folders of the server: files inside them are read, and nothing outside."""

import asyncio
import os
from pathlib import Path

import pytest

from segserve.errors import BadInput, NotAllowed
from segserve.jobs.kinds.batch_images import ServerRoots
from segserve.jobs.kinds.server_folder import ServerFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create a folder with links to outside and inside, to folders and to files, and with a pipe."""
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"one")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (folder / "out.png").symlink_to(outside / "secret.png")
    (folder / "up.png").symlink_to("../outside/secret.png")
    (folder / "in.png").symlink_to("a/1.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "away").symlink_to(outside)
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    return folder


def list_pictures(root: Path, folder: str = "") -> list[str]:
    return asyncio.run(ServerRoots({"in": str(root)}).list_pictures("in", folder))


def read_file(root: Path, path: str) -> bytes | None:
    async def read() -> bytes | None:
        parts = await ServerFolder(root).stream(path)
        return None if parts is None else b"".join([part async for part in parts])

    return asyncio.run(read())


def test_files_are_listed_and_no_link_to_a_folder_is_followed(root: Path) -> None:
    assert list_pictures(root) == ["a/1.png", "broken.png", "in.png", "out.png", "pipe.png", "up.png"]
    assert list_pictures(root, "a") == ["a/1.png"]
    with pytest.raises(BadInput, match="leads out of the root") as caught:
        list_pictures(root, "away")
    assert caught.value.field == "input.folder"
    with pytest.raises(BadInput, match="no pictures"):
        list_pictures(root, "nothing")


def test_links_are_read_if_they_stay_inside(root: Path) -> None:
    assert (
        read_file(root, "a/1.png") == read_file(root, "in.png") == read_file(root, "round/a/1.png") == b"one"
    )
    for path in ("out.png", "up.png", "away/secret.png"):
        with pytest.raises(NotAllowed, match="leads out of the root"):
            read_file(root, path)
    with pytest.raises(NotAllowed, match="not a regular file"):
        read_file(root, "pipe.png")
    assert read_file(root, "broken.png") is None


def test_a_root_that_is_a_link_is_the_folder_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert read_file(tmp_path / "link", "a/1.png") == b"one"
