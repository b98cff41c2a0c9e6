"""Scanning an upload takes work in proportion to its files."""

import sys
from pathlib import Path
from typing import Any

import pytest

from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.group_series import group_series
from segserve.files.dicom.scan_files import scan_files
from segserve.files.zip_archive import BoundedZip
from tests.files.dicom.sample_dicom import draw, encode, make_slice, write_zip

FEW, MANY = 100, 400


def write_slices(path: Path, count: int) -> Path:
    files = {}
    for number in range(count):
        made = make_slice(draw(number), (0, 0, 2.5 * number), number=number + 1)
        files[f"{number * 7919 % 100_003:06d}"] = encode(made)
    return write_zip(path, files)


def count_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Return how many entries are opened, and how many functions are called, while an upload is scanned."""
    opens, calls = 0, 0
    unwrapped = BoundedZip.open

    def open_entry(archive: BoundedZip, *arguments: Any, **options: Any) -> Any:
        nonlocal opens
        opens += 1
        return unwrapped(archive, *arguments, **options)

    def count_call(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    monkeypatch.setattr(BoundedZip, "open", open_entry)
    entries = DicomEntries(path, 1000)
    sys.setprofile(count_call)
    try:
        [series] = group_series(scan_files(entries).frames)
    finally:
        sys.setprofile(None)
        entries.close()
        monkeypatch.undo()
    assert series.count == entries.count
    return opens, calls


def test_work_grows_with_the_files_and_each_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_opens, few_calls = count_work(write_slices(tmp_path / "few.zip", FEW), monkeypatch)
    many_opens, many_calls = count_work(write_slices(tmp_path / "many.zip", MANY), monkeypatch)
    assert (few_opens, many_opens) == (FEW, MANY)
    # Sorting adds a logarithm.
    assert many_calls < 1.1 * few_calls * MANY / FEW
