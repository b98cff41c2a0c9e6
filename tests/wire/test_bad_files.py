"""Files that cannot be used: a real service refuses each with a reason and a remedy, and goes on."""

import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.files import sample_files
from tests.serving import Server
from tests.wire.responses import assert_refused
from tests.wire.test_files import upload


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("careful"), max_file_mb="20", max_image_megapixels="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def image_id(limited_server: Server, nuclei: Path) -> str:
    return limited_server.upload(nuclei)


@pytest.fixture(autouse=True)
def nothing_is_left(limited_server: Server, image_id: str) -> Iterator[None]:
    before = list_stored_files(limited_server)
    yield
    assert list_stored_files(limited_server) == before
    assert limited_server.click(image_id, 413, 190).status_code == 200


def list_stored_files(server: Server) -> list[Path]:
    """All files in the object store and in the temporary folder."""
    return sorted(
        path for name in ("objects", "tmp") for path in (server.data_dir / name).rglob("*") if path.is_file()
    )


def truncate(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def write_zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], Path]:
    return lambda path: sample_files.write_zip(path, entries, compression)


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


PICTURE = sample_files.encode_frame(0)
LARGE = sample_files.encode_png(np.zeros((1100, 1000, 3), np.uint8))
DICOM = b"\0" * 128 + b"DICM" + b"\xff" * 500
VOLUME = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 9 9\nendian: little\nencoding: raw\n\n123"


def clip(
    suffix: str, make: Callable[[Path], Path] = sample_files.write_video, share: float = 1.0
) -> Callable[[Path], Path]:
    return lambda path: truncate(make(path.with_suffix(suffix)), share)


def text(data: bytes) -> Callable[[Path], Path]:
    return lambda path: write_bytes(path, data)


BAD, OVER, UNKNOWN = (422, "bad_input"), (413, "too_large"), (415, "unsupported_format")
CASES: dict[str, tuple[Callable[[Path], Path], tuple[int, str], str]] = {
    "sound alone": (clip(".mp4", sample_files.write_sound), BAD, "no video in it"),
    "no frames": (clip(".mp4", sample_files.write_empty_video), BAD, "no video in it"),
    "cut in its head": (clip(".mp4", share=0.02), BAD, "cut short: it has "),
    "cut in the middle": (clip(".mp4", share=0.5), BAD, "cut short: it has "),
    "cut at its end": (clip(".mp4", share=0.9), BAD, "video"),
    "frames that grow": (clip(".avi", sample_files.write_growing_video), BAD, "the first one 64 x 48"),
    "text as mp4": (lambda path: write_bytes(path.with_suffix(".mp4"), b"this is text\n" * 99), UNKNOWN, "no format"),
    "nothing": (text(b""), UNKNOWN, "no format"),
    "frames too large": (write_zip({"a.png": LARGE}), OVER, "pixels"),
    "unreadable dicom": (write_zip({"1.dcm": DICOM, "2.dcm": DICOM}), BAD, "ends before its pixels"),
    "path upwards": (write_zip({"../../etc/cron.d/x.png": PICTURE}), BAD, "outside itself"),
    "absolute path": (write_zip({"/etc/x.png": PICTURE}), BAD, "outside itself"),
    "dicom upwards": (write_zip({"a/1.dcm": DICOM, "../2.dcm": DICOM}), BAD, "outside itself"),
    "bomb by ratio": (write_zip({"x.png": b"\0" * 19_000_000}), OVER, "packed to"),
    "bomb by count": (text(sample_files.make_zip_of_many_entries(120_000)), OVER, "120000 entries"),
    "bomb by sum": (write_zip({f"{i}.png": b"\0" * 900_000 for i in range(24)}), OVER, "21 MB unpacked"),
    "no pictures": (write_zip({"readme.txt": b"x"}), BAD, "no pictures"),
    "cut zip": (lambda p: truncate(sample_files.write_zip(p, {"a.png": PICTURE}), 0.9), BAD, "zip cannot be read"),
    "cut volume": (text(VOLUME), BAD, "ends early"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_files_are_refused_with_a_reason_and_a_remedy(
    limited_server: Server, tmp_path: Path, name: str
) -> None:
    make, (status, code), reason = CASES[name]
    result = assert_refused(upload(limited_server, make(tmp_path / "x")), status, code, "file")
    assert reason in result["detail"]
    assert str(limited_server.data_dir) not in str(result), "paths of the server are not shown"


def test_a_zip_of_pictures_of_several_sizes_is_for_batches_only(
    limited_server: Server, tmp_path: Path
) -> None:
    entries = {"1.png": PICTURE, "2.png": sample_files.encode_frame(1, 50)}
    record = upload(limited_server, sample_files.write_zip(tmp_path / "x.zip", entries)).json()
    assert (record["kind"], record["frames"]) == ("pictures", 2)
    limited_server.client.delete(f"/v1/files/{record['file_id']}")


def test_frames_of_a_gif_are_drawn_on_its_screen(limited_server: Server) -> None:
    record = limited_server.client.post(
        "/v1/files", content=sample_files.encode_gif((64, 48), (100, 90), (20, 10))
    ).json()
    assert (record["kind"], record["width"], record["height"]) == ("video", 64, 48)
    limited_server.client.delete(f"/v1/files/{record['file_id']}")


def test_a_full_disk(limited_server: Server, tmp_path: Path) -> None:
    """No file of the service may grow over 200 KB: what the system says then is what it says of a full disk, in the
    object store and among the temporary files."""
    picture = sample_files.encode_png(np.zeros((9, 9, 3), np.uint8))
    video = sample_files.write_zip(tmp_path / "x.zip", {"a.png": picture, "b.txt": noise(0, 400_000)})
    large = tmp_path / "large.zip"
    sample_files.write_zip(large, {"a.png": PICTURE, "b.txt": noise(1, 10_000_000)})
    picture = sample_files.encode_png(np.frombuffer(noise(2, 3 * 400 * 400), np.uint8).reshape(400, 400, 3))
    pid = limited_server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        for path in (video, large):
            assert_refused(upload(limited_server, path), 507, "storage_full")
            assert_refused(
                limited_server.client.post("/v1/files", content=path.read_bytes()), 507, "storage_full"
            )
        result = assert_refused(
            limited_server.client.post("/v1/images", content=picture), 507, "storage_full"
        )
        assert "ask the operator for more room" in result["remedy"]
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    answer = upload(limited_server, video)
    assert answer.status_code == 201, "with room again it is taken"
    limited_server.client.delete(f"/v1/files/{answer.json()['file_id']}")
