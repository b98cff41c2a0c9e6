"""Records of files survive storage, those of earlier versions too; options are part of an id."""

import io
from dataclasses import asdict

import orjson

from segserve.store.content_id import compute_content_id
from segserve.store.file_store import parse_file_record
from segserve.types import FileContent, FileKind, FileOptions, FileRecord, LeftOut, LeftOutFile, Size

RECORD = FileRecord(
    "a" * 64,
    FileKind.VOLUME,
    "dicom",
    20,
    Size(64, 48),
    1000,
    1.0,
    spacing=(2.5, 0.5, 0.5),
    options=FileOptions("1", 3),
    contents=(FileContent("1.2", "head", 4, 20, Size(64, 48), 3, ("It is tilted.",)),),
    left_out=LeftOut(2, (LeftOutFile("README", "It is not DICOM."),)),
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert parse_file_record(orjson.dumps(asdict(RECORD))) == RECORD


def test_a_record_of_an_earlier_version_is_read() -> None:
    raw = {k: v for k, v in asdict(RECORD).items() if k not in ("options", "contents", "left_out")}
    record = parse_file_record(orjson.dumps(raw))
    assert (record.options, record.contents, record.left_out) == (FileOptions(), (), LeftOut())


def test_options_are_part_of_the_id() -> None:
    options = [FileOptions(), FileOptions("1"), FileOptions(time=1), FileOptions("1", 1), FileOptions("None")]
    assert len({compute_content_id(io.BytesIO(b"x"), option)[0] for option in options}) == len(options)
