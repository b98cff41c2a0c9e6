"""Temporary files of living processes are kept; those of killed processes are deleted."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from segserve.errors import StorageFull
from segserve.temporary_files import is_disk_full, private_temporary_folder, translate_disk_full

HOLDER_SCRIPT = """
import pathlib, sys, tempfile
from segserve.temporary_files import private_temporary_folder
with private_temporary_folder(pathlib.Path(sys.argv[1])):
    print(tempfile.mkdtemp(), flush=True)
    sys.stdin.read()
"""


def start_holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process with a private temporary folder. Return it, and a folder that it created there."""
    command = [sys.executable, "-c", HOLDER_SCRIPT, str(parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_killed_processes_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    parent, elsewhere = tmp_path / "tmp", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (killed, left), (living, held) = start_holder(parent), start_holder(parent)
    (parent / "link").symlink_to(elsewhere)
    (parent / "file").write_text("x")
    killed.kill()
    killed.communicate()
    assert left.is_dir()
    with private_temporary_folder(parent) as folder:
        assert Path(tempfile.gettempdir()) == folder
        assert not left.parent.exists()
        assert held.is_dir()
        assert elsewhere.is_dir()
    assert not folder.exists()
    living.communicate("")
    assert living.returncode == 0
    assert not held.parent.exists(), "a process that ends deletes its own folder"


def test_a_full_disk_is_told_from_other_errors() -> None:
    with pytest.raises(StorageFull), translate_disk_full():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), translate_disk_full():
        raise PermissionError(errno.EACCES, "No")
    assert is_disk_full(RuntimeError("Unable to copy data to file: No space left on device (os error 28)"))
    assert not is_disk_full(RuntimeError("Permission denied (os error 13)"))
    assert not is_disk_full(RuntimeError("connection refused"))
