"""The slices of a volume name the instances that they came from, in the order of slices, through the sandbox."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.files.dicom.source_instances import parse_source_series
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileOptions
from tests.files.dicom.sample_dicom import (
    CT,
    LIMITS,
    draw,
    encode,
    make_series,
    make_slice,
    open_files,
    positions,
    write_zip,
)


@pytest.fixture(scope="module")
def readers() -> Iterator[FileReaders]:
    sandbox = Sandbox(READER_MODULE)
    with ThreadPoolExecutor(1) as executor:
        yield FileReaders(sandbox, LIMITS, timeout_s=60, memory_mb=0, executor=executor)
    sandbox.close()


def test_a_volume_is_read_in_the_sandbox_with_the_instances_of_its_slices(
    readers: FileReaders, tmp_path: Path
) -> None:
    names = {"PatientName": "Müller^Anna", "PatientID": "7", "SpecificCharacterSet": "ISO_IR 100"}
    first = make_series(6, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400, **names)
    second = {
        f"P{number}": encode(make_slice(draw(), position, number=20 - number))
        for number, position in enumerate(positions(6))
    }
    path = write_zip(tmp_path / "u.zip", first | second)
    record = readers.probe(path, "x")
    assert (record.count, record.contents[0].times) == (6, 2)
    with readers.open_volume(path, "dicom") as volume:
        voxels = volume.voxels()
    assert np.array_equal(voxels, np.stack([draw(number) for number in range(6)]) - 1024)
    assert volume.window == pytest.approx((-160, 239))
    series = readers.read_source_series(path, FileOptions())
    assert (series.study_uid, series.series_uid, series.frame_of_reference_uid) == (
        "1.2.3",
        "1.2.3.1",
        "1.2.3.9",
    )
    assert series.attributes["PatientName"] == "Müller^Anna"
    assert [one.sop_instance_uid.split(".")[4] for one in series.slices] == list("123456")
    assert {one.sop_class_uid for one in series.slices} == {CT}
    assert [one.position for one in series.slices] == [tuple(position) for position in positions(6)]
    assert {(one.frame_number, one.tile) for one in series.slices} == {(None, None)}
    later = readers.read_source_series(path, FileOptions(time=1))
    assert [one.sop_instance_uid.split(".")[4] for one in later.slices] == [
        "20",
        "19",
        "18",
        "17",
        "16",
        "15",
    ]
    with pytest.raises(BadInput, match="no point in time"):
        readers.read_source_series(path, FileOptions(time=2))


def test_frames_of_one_instance_have_numbers(tmp_path: Path) -> None:
    frames = np.stack([draw(number) for number in range(5)])
    opened = open_files(tmp_path, {"a": encode(make_slice(frames, NumberOfFrames=5))})
    assert [one.frame_number for one in opened.source.slices] == [1, 2, 3, 4, 5]
    assert len({one.sop_instance_uid for one in opened.source.slices}) == 1


@pytest.mark.parametrize(
    "lie", [b"", b"[]", b'{"study_uid": 3}', b"\xff", b'{"study_uid": "' + b"1" * 99 + b'"}']
)
def test_lies_about_instances_are_refused(lie: bytes) -> None:
    assert parse_source_series(lie) is None
