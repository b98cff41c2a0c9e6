"""Files are read in sandboxed processes, and nothing that such a process answers is believed unchecked."""

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from segserve.errors import BadInput, MissingDependency, StorageFull, TooLarge, Unavailable
from segserve.files.file_readers import MAX_ERROR_CHARS, READER_MODULE, FileReaders
from segserve.sandbox.messages import MAX_MESSAGE_BYTES
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileKind, FileLimits, Size
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe

GEOMETRY = {
    "size": [30, 20, 6],
    "spacing": [1, 1, 1],
    "origin": [0, 0, 0],
    "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1],
}
RECORD = {
    "kind": "video",
    "format": "mp4",
    "count": 3,
    "size": {"height": 4, "width": 5},
    "spacing": None,
    "fps": 10,
    "contents": [],
    "left_out": {"count": 0, "files": []},
    "frame_index": {"decoded_count": None, "left_out_entries": None},
}
CONTENT = {
    "series": "a",
    "description": "",
    "times": 2,
    "count": 3,
    "size": {"height": 4, "width": 5},
    "taken_time": 1,
    "notes": [],
}
# A hang is minutes; a machine under load is not.
HANG_S = 60


def make_readers(sandbox: Sandbox, executor: ThreadPoolExecutor, timeout_s: float = 60.0) -> FileReaders:
    return FileReaders(sandbox, LIMITS, timeout_s=timeout_s, memory_mb=0, executor=executor)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture(scope="module")
def readers(executor: ThreadPoolExecutor) -> Iterator[FileReaders]:
    sandbox = Sandbox(READER_MODULE)
    yield make_readers(sandbox, executor)
    sandbox.close()


@pytest.fixture(scope="module")
def liars() -> Iterator[Sandbox]:
    sandbox = Sandbox("tests.files.lying_reader")
    yield sandbox
    sandbox.close()


class Liar:
    """Readers of a file that says what its reader answers."""

    def __init__(self, readers: FileReaders, path: Path) -> None:
        self.readers, self.path = readers, path

    def tell(self, **replies: Any) -> None:
        self.path.write_text(json.dumps(replies))

    def probe(self) -> Any:
        return self.readers.probe(self.path, "x")


@pytest.fixture
def liar(liars: Sandbox, executor: ThreadPoolExecutor, tmp_path: Path) -> Liar:
    return Liar(make_readers(liars, executor), tmp_path / "upload")


def test_what_a_process_reads_is_what_is_in_the_file(readers: FileReaders, tmp_path: Path) -> None:
    video = sample_files.write_video(tmp_path / "clip.mp4")
    record = readers.probe(video, "id")
    assert (record.file_id, record.kind, record.count, record.size) == (
        "id",
        FileKind.VIDEO,
        20,
        Size(48, 64),
    )
    assert record.fps == pytest.approx(10, rel=0.01)
    frames = readers.open_frames(video, "mp4")
    for index in (7, 0, 19):
        assert abs(int(frames.read(index)[40, 2].mean()) - 20 - 3 * index) <= 40
    with pytest.raises(BadInput):
        frames.read(20)
    assert frames.read(19).shape == (48, 64, 3), "after an error it goes on"
    frames.close()
    sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nrrd"), True)
    with readers.open_volume(tmp_path / "v.nrrd", "nrrd") as volume:
        voxels = volume.voxels()
    assert volume.geometry.spacing == pytest.approx((0.5, 0.75, 2.0))
    assert np.array_equal(voxels, sitk.GetArrayFromImage(sample_files.make_volume())), (
        "they outlive the process"
    )
    assert not voxels.flags.writeable


def test_the_service_does_not_load_the_libraries(tmp_path: Path) -> None:
    """Run in a process of its own, because tests have loaded them here."""
    sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.mha"))
    sample_files.write_video(tmp_path / "clip.mp4")
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileLimits
sandbox = Sandbox(READER_MODULE)
limits = FileLimits(20, 1 << 20, 1 << 20)
readers = FileReaders(sandbox, limits, timeout_s=60, memory_mb=0, executor=ThreadPoolExecutor(1))
for name in ("v.mha", "clip.mp4"):
    print(readers.probe(Path({str(tmp_path)!r}) / name, "").count)
maps = Path("/proc/self/maps").read_text()
assert "SimpleITK" not in maps and "libavcodec" not in maps, maps
sandbox.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["6", "20"], done.stderr


LIES: dict[str, Any] = {
    "negative count": RECORD | {"count": -1},
    "endless count": RECORD | {"count": 10**30},
    "no size": RECORD | {"size": None},
    "too large a frame": RECORD | {"size": {"height": 10_000, "width": 10_000}},
    "another format": RECORD | {"format": "../../etc/passwd"},
    "another kind": RECORD | {"kind": "program"},
    "spacing": RECORD | {"spacing": [1, 1]},
    "a rate that is no number": RECORD | {"fps": float("nan")},
    "a series too many": RECORD | {"contents": [CONTENT] * 101},
    "a long name": RECORD | {"contents": [CONTENT | {"series": "x" * 101}]},
    "a point in time before the first": RECORD | {"contents": [CONTENT | {"taken_time": -1}]},
    "too many left out": RECORD | {"left_out": {"count": 21, "files": [{"name": "a", "reason": ""}] * 21}},
    "nothing": {},
    "text": "x",
    "a list": [1],
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_a_file_are_refused(liar: Liar, lie: str) -> None:
    liar.tell(probe={"result": LIES[lie]})
    with pytest.raises(BadInput, match="cannot be read"):
        liar.probe()
    liar.tell(probe={"result": RECORD})
    assert liar.probe().count == 3


RAW = {
    "a length without end": b"\xff\xff\xff\xff",
    "just over the limit": (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big") + b" " * 10,
    "no JSON": (5).to_bytes(4, "big") + b"hello",
    "no object": (3).to_bytes(4, "big") + b"[1]",
    "nested": (60_000).to_bytes(4, "big") + b"[" * 60_000,
    "no text": (4).to_bytes(4, "big") + b"\xff\xfe\xfd\xfc",
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_message_is_refused(liar: Liar, name: str) -> None:
    liar.tell(probe={"bytes": RAW[name].hex()})
    with pytest.raises(BadInput, match="cannot be read"):
        liar.probe()


@pytest.mark.parametrize(
    "lie",
    [
        {"size": [3000, 2000, 6000]},
        {"size": [0, 20, 6]},
        {"spacing": [1, 1, float("inf")]},
        {"direction": [1, 0, 0]},
        {"origin": [0, 0, "x"]},
    ],
)
def test_lies_about_geometry_are_refused(liar: Liar, lie: dict[str, Any]) -> None:
    liar.tell(open_volume={"result": GEOMETRY | lie})
    with pytest.raises(BadInput, match="cannot be read"), liar.readers.open_volume(liar.path, "nrrd"):
        pass


@pytest.mark.parametrize(
    "lie", [{"shape": [6, 20, 31], "dtype": "uint8"}, {"shape": [6, 20, 30], "dtype": "object"}]
)
def test_lies_about_voxels_are_refused(liar: Liar, lie: dict[str, Any]) -> None:
    liar.tell(open_volume={"result": GEOMETRY}, load_voxels={"result": lie}, write_voxels={"result": {}})
    with (
        liar.readers.open_volume(liar.path, "nrrd") as volume,
        pytest.raises(BadInput, match="cannot be read"),
    ):
        volume.voxels()


def test_pixels_that_are_not_written_are_zeros(liar: Liar) -> None:
    liar.tell(
        open_volume={"result": GEOMETRY},
        load_voxels={"result": {"shape": [6, 20, 30], "dtype": "float32"}},
        write_voxels={"result": {}},
        open_frames={"result": {"count": 2, "size": {"height": 4, "width": 5}}},
        read_frame={"result": {}},
    )
    with liar.readers.open_volume(liar.path, "nrrd") as volume:
        assert not volume.voxels().any()
    frames = liar.readers.open_frames(liar.path, "mp4")
    assert not frames.read(1).any()
    frames.close()


def test_errors_are_those_of_the_tree_and_short(liar: Liar) -> None:
    error = {"type": "TooLarge", "message": "a\r\n\x1b[2J" + "x" * 5000, "remedy": "r", "field": "file"}
    liar.tell(probe={"error": error})
    with pytest.raises(TooLarge) as raised:
        liar.probe()
    assert len(raised.value.message) <= MAX_ERROR_CHARS
    assert raised.value.message.isprintable()
    for name, expected in {
        "BadInput": BadInput,
        "MissingDependency": MissingDependency,
        "StorageFull": StorageFull,
        "SystemExit": BadInput,
        "KeyboardInterrupt": BadInput,
    }.items():
        liar.tell(probe={"error": error | {"type": name}})
        with pytest.raises(expected):
            liar.probe()
    for broken in (
        "x",
        None,
        {"type": "BadInput"},
        {"type": "BadInput", "message": 1, "remedy": "", "field": None},
    ):
        liar.tell(probe={"error": broken})
        with pytest.raises(BadInput):
            liar.probe()


@pytest.mark.parametrize("how", ["hang", "compute"])
def test_a_reader_that_takes_too_long_is_killed(
    liars: Sandbox, executor: ThreadPoolExecutor, tmp_path: Path, how: str
) -> None:
    liar = Liar(make_readers(liars, executor, timeout_s=0.3), tmp_path / "upload")
    liar.tell(probe=how)
    with pytest.raises(BadInput, match="was not read within") as raised:
        liar.probe()
    assert (raised.value.field, "SEGSERVE_READER_TIMEOUT_S" in raised.value.remedy) == ("file", True)


def test_a_reader_that_crashes_is_a_refusal(liar: Liar) -> None:
    liar.tell(probe="crash")
    with pytest.raises(BadInput, match="cannot be read") as raised:
        liar.probe()
    assert (raised.value.field, bool(raised.value.remedy)) == ("file", True)


def test_who_is_cancelled_kills_the_reader(liar: Liar) -> None:
    liar.tell(probe="hang")
    readers = liar.readers.group()

    async def cancel() -> float:
        waiting = asyncio.create_task(readers.run(readers.probe, liar.path, "x"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return time.monotonic() - began

    assert asyncio.run(cancel()) < HANG_S
    with pytest.raises(Unavailable):
        readers.probe(liar.path, "x")
    liar.tell(probe={"result": RECORD})
    assert liar.probe().count == 3, "readers of others go on"


def test_memory_ends_where_the_setting_says(executor: ThreadPoolExecutor, tmp_path: Path) -> None:
    sandbox = Sandbox(READER_MODULE)
    readers = FileReaders(sandbox, LIMITS, timeout_s=60, memory_mb=1, executor=executor)
    path = tmp_path / "v.nrrd"
    sitk.WriteImage(sitk.Image([100, 100, 100], sitk.sitkFloat64), str(path))
    assert probe(path).count == 100
    with pytest.raises(TooLarge, match="memory"), readers.open_volume(path, "nrrd") as volume:
        volume.voxels()
    sandbox.close()


def test_nothing_is_left_behind(
    readers: FileReaders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    path = sample_files.write_zip(tmp_path / "s.zip", sample_files.write_dicom_series(tmp_path / "d", 3))
    assert readers.probe(path, "x").count == 3
    (tmp_path / "bad").write_bytes(b"PK" + b"x" * 100)
    with pytest.raises(BadInput):
        readers.probe(tmp_path / "bad", "x")
    assert not list(temporary.iterdir())


def test_memory_follows_from_the_headers_of_pictures(executor: ThreadPoolExecutor, tmp_path: Path) -> None:
    """Large frames are read within the limits, and the address space is not more than they need."""
    sandbox = Sandbox(READER_MODULE)
    limits = FileLimits(max_mb=1000, max_frame_pixels=30_000_000, max_voxels=1 << 20)
    readers = FileReaders(sandbox, limits, timeout_s=60, memory_mb=0, executor=executor)
    values = np.zeros((2, 5000, 5000), np.uint16)
    values[1] = 1000
    tifffile.imwrite(tmp_path / "t.tif", values, photometric="minisblack", compression="zlib")
    picture = io.BytesIO()
    Image.fromarray(np.zeros((5000, 5000, 3), np.uint8)).save(picture, "WEBP", lossless=True)
    sample_files.write_zip(tmp_path / "p.zip", {f"{number}.webp": picture.getvalue() for number in range(2)})
    for name, file_format in {"t.tif": "tiff", "p.zip": "zip"}.items():
        assert readers.probe(tmp_path / name, "x").size == Size(5000, 5000)
        frames = readers.open_frames(tmp_path / name, file_format)
        assert frames.read(1).shape == (5000, 5000, 3)
        frames.close()
    sandbox.close()
