"""Files that crash, hang or mislead a native library are refused, and the service goes on answering clicks."""

import gzip
import io
import random
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import SimpleITK as sitk

from tests.files import sample_files
from tests.files.dicom_files import ENCAPSULATED_RLE, encode_dicom, encode_fragments
from tests.serving import Server, ServerStartedAnew

# A hang is minutes; a machine under load is not.
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service of its own: these tests look for the processes and files that it leaves."""
    running = Server(tmp_path_factory.mktemp("hostile"), reader_timeout_s="5")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def upload(service: Server, data: bytes) -> httpx.Response:
    return service.client.post("/v1/files", content=data, timeout=TIMEOUT_S)


def check_refused(service: Server, answer: httpx.Response) -> dict[str, Any]:
    """Check that it is a problem document about the file, and that the same process goes on. Returns the document."""
    assert answer.status_code in (413, 415, 422), answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["errors"][0]["field"] == "file" if "errors" in problem else problem["field"] == "file", (
        problem
    )
    assert service.process.poll() is None
    assert service.client.get("/livez").status_code == 200
    assert "Traceback" not in service.log.read_text()
    assert str(service.data_dir) not in answer.text
    return problem


def zip_of(*files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number}.dcm", data)
    return out.getvalue()


def compress_metaimage(side: int, packed: bytes) -> bytes:
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
    head += f"CompressedDataSize = {len(packed)}\nDimSize = {side} {side} {side}\nElementType = MET_UCHAR\n"
    return head.encode() + b"ElementDataFile = LOCAL\n" + packed


def encode_nifti_header(side: int, datatype: int) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into("<h", header, 70, datatype)
    struct.pack_into("<8f", header, 76, *[1] * 8)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def nested_sequences(depth: int) -> bytes:
    opening = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return (opening + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


RLE_WITHOUT_SEGMENTS = encode_fragments(b"", struct.pack("<16I", 0, *[0] * 15) + b"ab")

DICOM = {
    "RLE without segments": encode_dicom(
        transfer_syntax=ENCAPSULATED_RLE, pixel_element=RLE_WITHOUT_SEGMENTS
    ),
    "sequences in sequences": encode_dicom(extra=nested_sequences(20_000)),
}


@pytest.mark.parametrize("name", DICOM)
def test_dicom_that_ends_gdcm_is_refused(service: Server, name: str) -> None:
    check_refused(service, upload(service, zip_of(DICOM[name])))
    good = sample_files.write_zip(
        service.data_dir / "s.zip", sample_files.write_dicom_series(service.data_dir / "d", 3)
    )
    assert upload(service, good.read_bytes()).status_code == 201


INCOMPLETE = {
    "NIfTI without voxels": encode_nifti_header(400, 64),
    "NIfTI, gzip, without voxels": gzip.compress(encode_nifti_header(400, 64)),
    "NRRD without voxels": b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 64 64 64\nencoding: raw\n\n",
    "NRRD, gzip, short": b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 64 64 64\nencoding: gzip\n\n"
    + gzip.compress(b"x"),
    "MetaImage, packed, short": compress_metaimage(64, zlib.compress(bytes(100))),
    "MetaImage, packed, damaged": compress_metaimage(16, zlib.compress(random.Random(0).randbytes(4096))[:-900]),
    "DICOM without pixels": zip_of(encode_dicom(pixels=bytes(100)), encode_dicom(z=1, pixels=bytes(100))),
}  # fmt: skip


@pytest.mark.parametrize("name", INCOMPLETE)
def test_volumes_whose_file_ends_early_are_refused(service: Server, name: str) -> None:
    problem = check_refused(service, upload(service, INCOMPLETE[name]))
    assert "ends early" in problem["detail"]


def test_a_damaged_file_that_is_stored_already_fails_its_job(service: Server, nuclei: Path) -> None:
    """It is stored as by an older version, and read as a reference and as the job's own volume."""
    image_id = service.upload(nuclei)
    sitk.WriteImage(sample_files.make_volume(), str(service.data_dir / "v.nrrd"))
    data = (service.data_dir / "v.nrrd").read_bytes()
    (service.data_dir / "v.nrrd").unlink()
    good = upload(service, data).json()["file_id"]
    stored = next(
        path for path in service.data_dir.rglob("*") if path.is_file() and path.read_bytes() == data
    )
    stored.write_bytes(compress_metaimage(16, b"x" * 100))
    params = {"engine": "projection", "reference": {"file_id": good}}
    body = {"kind": "volume", "input": {"file_id": good}, "params": params}
    answer = service.client.post("/v1/jobs", json=body, timeout=TIMEOUT_S)
    assert answer.status_code == 422, answer.text
    objects = [{"object_id": 1, "prompts": [{"frame": 0, "box": [2, 2, 9, 9]}]}]
    body = {
        "kind": "volume",
        "input": {"file_id": good},
        "params": {"engine": "projection", "objects": objects},
    }
    job = service.client.post("/v1/jobs", json=body).json()
    deadline = time.monotonic() + TIMEOUT_S
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = service.client.get(f"/v1/jobs/{job['job_id']}").json()
    assert (job["state"], job["attempts"]) == ("failed", 1), job
    assert job["error"]["type"] == "urn:segserve:problem:bad_input", job["error"]
    assert service.click(image_id, 413, 190).status_code == 200


def test_nothing_is_left_after_the_service_is_killed(tmp_path: Path) -> None:
    running = ServerStartedAnew(tmp_path / "data")
    running.wait_ready()
    sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nrrd"))
    assert upload(running, (tmp_path / "v.nrrd").read_bytes()).status_code == 201
    children = read_descendants(running.process.pid)
    readers = [pid for pid in children if b"segserve.sandbox.fork_server" in read_command(pid)]
    assert len(readers) >= 2, "the fork server and the process that waits"
    running.kill()
    deadline = time.monotonic() + TIMEOUT_S
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = Server(tmp_path / "data")
    try:
        # Its own folder, and its worker's; the worker of the killed one deletes its folder when it has ended.
        while len(list((tmp_path / "data" / "tmp").iterdir())) > 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        assert again.stop() == 0


def read_descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *read_descendants(int(child))]
    return found


def read_command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def make_video_of_codec(folder: Path, codec: bytes) -> bytes:
    return sample_files.write_video(folder / "clip.mp4").read_bytes().replace(b"avc1", codec)


def test_odd_names_and_codecs_are_refusals(service: Server, tmp_path: Path) -> None:
    for data in (
        sample_files.make_zip_without_name(),
        sample_files.make_zip_with_broken_name(),
        sample_files.make_zip_of_codec(99),
        make_video_of_codec(tmp_path, b"zzzz"),
        make_video_of_codec(tmp_path, b"\xff\xff\xff\xff"),
    ):
        check_refused(service, upload(service, data))
    assert "codec" in upload(service, make_video_of_codec(tmp_path, b"zzzz")).json()["detail"]
    assert not re.search(
        r'segserve_requests_total{.*route="/v1/files",status="500"}', service.client.get("/metrics").text
    )
