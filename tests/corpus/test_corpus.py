"""The corpus test itself: on a small corpus of its own, and on what must not pass it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.corpus.__main__ import check_corpus
from tests.corpus.check_file import compare, describe_difference
from tests.corpus.independent_readers import Compare, Reading, detect_kind, read_alone
from tests.corpus.sample_corpus import write_corpus
from tests.corpus.verdicts import FileResult, RouteResult, Verdict, find_leak, settle_routes


def test_a_corpus_of_every_kind_of_file_keeps_all_promises(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    expected = write_corpus(folder)
    (folder / ".series").rename(tmp_path / "series")
    results, report = asyncio.run(check_corpus([folder], quiet=True))
    assert {each.path: each.verdict for each in results if each.verdict not in expected[each.path]} == {}
    assert {each.path for each in results} == set(expected)
    assert not [each for each in results if each.broken or each.slow]
    assert "0 with a broken promise" in report
    assert all(each.routes[0].seconds > 0 for each in results)


@pytest.mark.parametrize(
    ("message", "leak"),
    [
        ("Is it complete? The file has 12 slices of 20.", False),
        ("data/scan.nii in the zip is damaged.", False),
        ("Send PNG/JPEG or a URL such as https://host/tmp/x.", False),
        ("Cannot open /tmp/abc/file", True),
        ("itkNiftiImageIO.cxx:488", True),
        ("'utf-8' codec can't decode byte 0xff", True),
        ("ValueError: not enough values to unpack", True),
        ("PIL.UnidentifiedImageError", True),
    ],
)
def test_messages_with_a_path_or_a_librarys_text_are_found(message: str, leak: bool) -> None:
    assert bool(find_leak(message)) is leak


def frames(count: int, value: int = 7) -> Reading:
    plane = np.full((4, 5, 3), value, np.uint8)
    return Reading("a reader", count, 4, 5, {0: plane}, compare=Compare.EXACT, spacing=(2.0, 1.0, 1.0))


TAKEN = {"frames": 3, "width": 5, "height": 4}


@pytest.mark.parametrize(
    ("reading", "taken", "count", "verdict"),
    [
        (frames(3), TAKEN, 3, Verdict.RIGHT),
        (frames(2), TAKEN, 3, Verdict.WRONG_FRAMES),
        (frames(3), TAKEN, 2, Verdict.WRONG_FRAMES),
        (frames(3), {**TAKEN, "width": 4}, 3, Verdict.WRONG_SIZE),
        (frames(3), {**TAKEN, "spacing": [2.1, 1, 1]}, 3, Verdict.WRONG_SPACING),
        (frames(3, value=8), TAKEN, 3, Verdict.WRONG_PIXELS),
        (None, TAKEN, 3, Verdict.UNKNOWN),
    ],
)
def test_differences_from_an_independent_reader_are_found(
    reading: Reading | None, taken: dict[str, object], count: int, verdict: Verdict
) -> None:
    assert compare(reading, taken, count, {0: np.full((4, 5, 3), 7, np.uint8)})[0] is verdict


def test_an_inverted_picture_is_not_alike() -> None:
    ramp = np.tile(np.arange(20.0), (10, 1))
    assert describe_difference(3 * ramp, ramp, Compare.ALIKE) == ""
    assert "correlation" in describe_difference(255 - ramp, ramp, Compare.ALIKE)


def test_a_route_that_leaves_a_file_to_the_other_one_is_not_doubtful() -> None:
    taken = RouteResult("files", 201, Verdict.RIGHT)
    refused = RouteResult("images", 415, Verdict.REFUSED)
    settle_routes(refused, taken)
    assert FileResult("x", "video", 1, [refused, taken]).verdict is Verdict.RIGHT


@pytest.mark.parametrize("verdict", [Verdict.SERVER_ERROR, Verdict.JOB_FAILED, Verdict.UNREADABLE])
def test_a_broken_promise_counts_whatever_the_other_route_says(verdict: Verdict) -> None:
    routes = [RouteResult("images", 201, Verdict.RIGHT), RouteResult("files", 500, verdict)]
    result = FileResult("x", "tiff", 1, routes)
    assert result.verdict is verdict
    assert result.broken


def test_independent_readers_know_the_sample_files(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    found = {
        path.name: read_alone(path, route, detect_kind(path))
        for path in tmp_path.iterdir()
        if path.is_file()
        for route in ["images" if path.suffix in (".png", ".jpg", ".bmp") else "files"]
    }
    counts = {name: reading.frames for name, reading in found.items() if reading}
    assert counts == {
        "picture.png": 1, "picture.jpg": 1, "grey.bmp": 1, "deep.tif": 1, "stack.tif": 4, "volume.nii.gz": 6,
        "volume.nii": 6, "volume.nrrd": 6, "volume.mha": 6, "clip.mp4": 7, "frames.zip": 3,
        "series.zip": 5,
    }  # fmt: skip
