"""A folder is sent as a zip of its files."""

import zipfile
from pathlib import Path

import pytest

from segserve.commands.folder_zip import zip_if_folder
from segserve.errors import BadInput


def test_hidden_files_are_left_out_but_for_metadata_of_zarr(tmp_path: Path) -> None:
    folder = tmp_path / "cells.zarr"
    for name in (".zattrs", "0/.zarray", "0/0.0", ".DS_Store", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    with zip_if_folder(folder) as path, zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [".zattrs", "0/.zarray", "0/0.0"]
        assert archive.read("0/0.0") == b"0/0.0"
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no files"), zip_if_folder(tmp_path / "empty"):
        pass
