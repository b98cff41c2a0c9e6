"""The output file of a command: its format by its suffix, and written whole or not at all."""

from pathlib import Path

import pytest

from segserve.commands.output_file import (
    check_png,
    choose_format_by_suffix,
    choose_image_format,
    explain_label_map,
    write_atomically,
)
from segserve.commands.server_client import get_formats_by_suffix
from segserve.errors import BadInput
from segserve.jobs.engine.job import JobKind
from segserve.wire.results.job_formats import JobFormat


def job_format(output: Path, kind: JobKind) -> JobFormat:
    return choose_format_by_suffix(output, get_formats_by_suffix(kind))


@pytest.mark.parametrize(
    ("kind", "suffix", "expected"),
    [
        (JobKind.VIDEO, ".mp4", JobFormat.MP4),
        (JobKind.VIDEO, ".zip", JobFormat.PNG),
        (JobKind.VIDEO, ".PNG", JobFormat.SHEET),
        (JobKind.VOLUME, ".nii.gz", JobFormat.NIFTI),
        (JobKind.VOLUME, ".tif", JobFormat.TIFF_STACK),
        (JobKind.VOLUME, ".dcm", JobFormat.DICOM_SEG),
        (JobKind.TRACKING, ".json", JobFormat.COCO),
    ],
)
def test_the_suffix_names_the_format_of_a_job(
    tmp_path: Path, kind: JobKind, suffix: str, expected: JobFormat
) -> None:
    assert job_format(tmp_path / f"out{suffix}", kind) is expected


def test_the_suffix_names_the_format_of_an_image(tmp_path: Path) -> None:
    assert choose_image_format(tmp_path / "out.TIFF", None, json="coco") == "tiff"
    assert choose_image_format(tmp_path / "out.json", None, json="coco") == "coco"
    assert choose_image_format(tmp_path / "out.json", None, json="rle") == "rle"


def test_an_explicit_format_wins_over_the_suffix(tmp_path: Path) -> None:
    assert choose_image_format(tmp_path / "out.png", "overlay", json="rle") == "overlay"
    assert choose_image_format(tmp_path / "out.anything", "npy", json="rle") == "npy"


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    for kind, name in [(JobKind.VIDEO, "out.nii.gz"), (JobKind.VOLUME, "out.mp4"), (JobKind.VIDEO, "out")]:
        with pytest.raises(BadInput, match="does not say what to write"):
            job_format(tmp_path / name, kind)
    with pytest.raises(BadInput, match="or give --format"):
        choose_image_format(tmp_path / "out.gif", None, json="rle")


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no folder"):
        job_format(tmp_path / "nowhere" / "out.mp4", JobKind.VIDEO)
    for explicit in (None, "png"):
        with pytest.raises(BadInput, match="no folder"):
            choose_image_format(tmp_path / "nowhere" / "out.png", explicit, json="rle")


def test_an_output_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with pytest.raises(TypeError), write_atomically(output) as out:
        out.writelines([b"half", None])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with write_atomically(output) as out:
        out.write(b"all of it")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert output.read_bytes() == b"all of it"


def test_a_png_is_named_so(tmp_path: Path) -> None:
    check_png(tmp_path / "m.PNG", "--output")
    with pytest.raises(BadInput, match=r"'m\.jpg' would be a PNG\. End it with \.png") as error:
        check_png(tmp_path / "m.jpg", "--overlay")
    assert error.value.field == "--overlay"


@pytest.mark.parametrize(("result_format", "is_explained"), [("png", True), ("tiff", True), ("coco", False)])
def test_label_maps_are_explained(
    result_format: str, is_explained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    explain_label_map(Path("labels.png"), result_format, "1 to N for the objects", "--overlay look.png")
    said = capsys.readouterr().out
    assert ("--overlay look.png makes a picture" in said) == is_explained
