"""A DICOMweb server for tests: one study with one series, as OHIF and the service ask for it."""

import io
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

from tests.http_listener import listening

BOUNDARY = "dicomweb-fake"
FRAMES = re.compile(r"/dicom-web/studies/[\d.]+/series/[\d.]+/instances/([\d.]+)/frames/1")
SERIES_TAGS = ("00080060", "0008103E", "0020000D", "0020000E", "00200011", "00201209")
STUDY_TAGS = (
    "00080020",
    "00080030",
    "00080050",
    "00080061",
    "00100010",
    "00100020",
    "0020000D",
    "00201206",
    "00201208",
)


class DicomwebFake:
    """`DicomwebFake` answers QIDO-RS and WADO-RS for the files of one series. url: ends with /dicom-web."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self.files = list(files)
        self.requests: list[str] = []
        self.sets = [pydicom.dcmread(io.BytesIO(data)) for data in files]
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.requests.append(self.path)
                status, kind, body = fake.answer(self.path, self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/dicom-web"
        self._listening = ExitStack()
        self._listening.enter_context(listening(self.server))

    def close(self) -> None:
        self._listening.close()

    def answer(self, target: str, accept: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        path = urlsplit(target).path.rstrip("/")
        query = parse_qs(urlsplit(target).query)
        first = self.sets[0]
        study, series = first.StudyInstanceUID, first.SeriesInstanceUID
        base = f"/dicom-web/studies/{study}"
        is_other = query.get("SeriesInstanceUID", [series])[0] != series
        if path == "/dicom-web/studies":
            return self.to_json([self.describe(STUDY_TAGS)])
        if path in ("/dicom-web/series", f"{base}/series"):
            return self.to_json([] if is_other else [self.describe(SERIES_TAGS)])
        if path in (f"{base}/metadata", f"{base}/series/{series}/metadata"):
            return self.to_json([self.metadata(each) for each in self.sets])
        if path == f"{base}/series/{series}":
            return self.multipart(self.files, "application/dicom")
        if match := FRAMES.fullmatch(path):
            pixels = [each.PixelData for each in self.sets if each.SOPInstanceUID == match[1]]
            return self.multipart(pixels, "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1")
        return 404, "text/plain", b"not here"

    def describe(self, tags: Sequence[str]) -> dict[str, Any]:
        """Return attributes of the first instance, as DICOM JSON."""
        known = self.metadata(self.sets[0])
        counts = {
            "00201206": {"vr": "IS", "Value": [1]},
            "00201208": {"vr": "IS", "Value": [len(self.sets)]},
            "00201209": {"vr": "IS", "Value": [len(self.sets)]},
            "00080061": {"vr": "CS", "Value": [self.sets[0].Modality]},
        }
        return {tag: counts.get(tag) or known[tag] for tag in tags if tag in counts or tag in known}

    def metadata(self, data_set: pydicom.Dataset) -> dict[str, Any]:
        content: dict[str, Any] = data_set.to_json_dict(bulk_data_threshold=1 << 30)
        del content["7FE00010"]
        return {**content, "00083002": {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}}

    def to_json(self, content: Any) -> tuple[int, str, bytes]:
        return 200, "application/dicom+json", json.dumps(content).encode()

    def multipart(self, parts: Sequence[bytes], kind: str) -> tuple[int, str, bytes]:
        body = b"".join(
            f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + part + b"\r\n" for part in parts
        )
        content_type = f'multipart/related; type="{kind.partition(";")[0]}"; boundary={BOUNDARY}'
        return 200, content_type, body + f"--{BOUNDARY}--\r\n".encode()
