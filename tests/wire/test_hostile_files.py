"""Files that crash, hang or mislead a native library are refused, and the service goes on answering clicks."""

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.files import sample_files
from tests.files.dicom_files import ENCAPSULATED_RLE, encode_dicom, encode_fragments
from tests.serving import Server

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
