"""Folders of the operator: what lies in them is read, and nothing outside."""

import asyncio
import os
from pathlib import Path

import pytest

from segserve.errors import BadInput, NotAllowed
from segserve.jobs.kinds.batch_images import ServerRoots
from segserve.jobs.kinds.server_folder import ServerFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With links to outside and inside, to folders and to files, and what is no file."""
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


def pictures(root: Path, folder: str = "") -> list[str]:
    return asyncio.run(ServerRoots({"in": str(root)}).list_pictures("in", folder))


def content(root: Path, path: str) -> bytes | None:
    return asyncio.run(ServerFolder(root).get(path))


def test_what_lies_in_it_is_listed_and_no_link_to_a_folder_followed(root: Path) -> None:
    assert pictures(root) == ["a/1.png", "broken.png", "in.png", "out.png", "pipe.png", "up.png"]
    assert pictures(root, "a") == ["a/1.png"]
    with pytest.raises(BadInput, match="leads out of the root") as caught:
        pictures(root, "away")
    assert caught.value.field == "input.folder"
    with pytest.raises(BadInput, match="no pictures"):
        pictures(root, "nothing")


def test_links_are_read_where_they_stay_inside(root: Path) -> None:
    assert content(root, "a/1.png") == content(root, "in.png") == content(root, "round/a/1.png") == b"one"
    for path in ("out.png", "up.png", "away/secret.png"):
        with pytest.raises(NotAllowed, match="leads out of the root"):
            content(root, path)
    with pytest.raises(NotAllowed, match="no file"):
        content(root, "pipe.png")
    assert content(root, "broken.png") is None


def test_a_root_that_is_a_link_itself_is_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert content(tmp_path / "link", "a/1.png") == b"one"
