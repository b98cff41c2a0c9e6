"""Series are fetched from a real DICOMweb server, by the rules of fetched URLs; what it answers is bounded."""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from segserve.errors import BadInput, FetchFailed, NotAllowed, TooLarge
from segserve.files.fetch_dicomweb import DicomwebFetcher, DicomwebSource
from segserve.v1 import files_pb2
from segserve.v1.files_pb2_grpc import FileServiceStub
from tests.files.dicom.sample_dicom import make_series
from tests.images.http_site import HERE, INNER, Answer, FakeResolver, Site, answer
from tests.serving import Server
from tests.wire.grpc_calls import read_refusal

STUDY, SERIES = "1.2.3", "1.2.3.1"
PATH = f"/dicom-web/studies/{STUDY}/series/{SERIES}"
MULTIPART = 'multipart/related; type="application/dicom"; boundary="b-1"'


def encode_parts(parts: list[bytes], boundary: bytes = b"b-1") -> bytes:
    body = b"".join(
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (boundary, part) for part in parts
    )
    return body + b"--%s--\r\n" % boundary


def instances(parts: list[bytes], content_type: str = MULTIPART) -> Answer:
    return answer(200, encode_parts(parts), content_type=content_type)


@pytest.fixture
def pacs() -> Iterator[Site]:
    with closing(Site(HERE)) as site:
        site.answers[PATH] = instances(list(make_series(5).values()))
        yield site


def fetch(
    source: DicomwebSource, *hosts: str, private: bool = True, max_bytes: int = 1_000_000, **options: Any
) -> bytes:
    into = io.BytesIO()
    fetcher = DicomwebFetcher(
        hosts, private=private, max_bytes=max_bytes, **{"authorization": None, "timeout_s": 30, **options}
    )
    asyncio.run(fetcher.fetch(source, into))
    return into.getvalue()


def series_of(site: Site, base: str = "/dicom-web") -> DicomwebSource:
    return DicomwebSource(site.url + base, STUDY, SERIES)


def test_a_series_is_fetched_as_it_is_stored(pacs: Site) -> None:
    data = fetch(series_of(pacs, "/dicom-web/?x=1"), HERE, authorization="Bearer secret")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(map(archive.read, archive.namelist())) == sorted(make_series(5).values())
    assert pacs.requests == [(f"{HERE}:{pacs.port}", PATH)]
    assert pacs.headers["accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert (pacs.headers["accept-encoding"], pacs.headers["authorization"]) == ("identity", "Bearer secret")
    pacs.answers[PATH] = instances(list(make_series(5).values())[::-1])
    assert fetch(series_of(pacs), HERE) == data, "in another order the same bytes"


def test_a_study_is_fetched(pacs: Site) -> None:
    pacs.answers[f"/dicom-web/studies/{STUDY}"] = instances([b"a", b"b"], "multipart/related; boundary=b-1")
    data = fetch(DicomwebSource(pacs.url + "/dicom-web", STUDY), HERE)
    assert len(zipfile.ZipFile(io.BytesIO(data)).namelist()) == 2
    assert pacs.headers["authorization"] is None


REFUSED: dict[str, tuple[Answer, type[Exception], str]] = {
    "not found": (answer(404), FetchFailed, "404"),
    "not allowed": (answer(401), NotAllowed, "401"),
    "redirected": (answer(302, location=f"http://{INNER}/"), FetchFailed, "302"),
    "no multipart": (answer(200, b"<html>", content_type="text/html"), FetchFailed, "DICOMweb"),
    "no boundary": (answer(200, b"x", content_type="multipart/related"), FetchFailed, "DICOMweb"),
    "nonsense": (answer(200, b"x" * 1000, content_type=MULTIPART), FetchFailed, "no multipart"),
    "compressed": (answer(200, b"x", content_type=MULTIPART, content_encoding="gzip"), FetchFailed, "compressed"),
    "broken off": (
        answer(200, encode_parts([b"a" * 100])[:-20], content_type=MULTIPART), FetchFailed, "broke off",
    ),
    "empty": (answer(200, b"--b-1--\r\n", content_type=MULTIPART), FetchFailed, "no instances|no multipart"),
    "too large": (instances([b"x" * 2_000_000]), TooLarge, "over 1 MB"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_series_is_refused(pacs: Site, name: str) -> None:
    pacs.answers[PATH], error, words = REFUSED[name]
    with pytest.raises(error, match=words) as raised:
        fetch(series_of(pacs), HERE)
    assert str(raised.value.field).startswith("dicomweb")  # type: ignore[attr-defined]
    assert len(pacs.requests) == 1


SEARCH = f"/dicom-web/series?SeriesInstanceUID={SERIES}&includefield=0020000D"


def find_study(site: Site, series: str = SERIES) -> str:
    fetcher = DicomwebFetcher(
        [HERE], private=True, max_bytes=1000, authorization="Bearer secret", timeout_s=30
    )
    return asyncio.run(fetcher.find_study(f"{site.url}/dicom-web/", series))


def found(series: str | None, study: str = STUDY) -> dict[str, Any]:
    """An entry of the answer to a search, in DICOM JSON."""
    uids = {"0020000D": study} | ({} if series is None else {"0020000E": series})
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}


@pytest.mark.parametrize("entries", [[found(SERIES)], [found("9.9", "9"), found(SERIES)], [found(None)]])
def test_the_study_of_a_series_is_found(pacs: Site, entries: list[Any]) -> None:
    pacs.answers[SEARCH] = answer(200, json.dumps(entries).encode())
    assert find_study(pacs) == STUDY
    assert pacs.headers["accept"] == "application/dicom+json"
    assert pacs.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("answered", "error", "words"),
    [
        (answer(204), BadInput, "no series"),
        (answer(200, b"[]"), BadInput, "no series"),
        (answer(200, b'{"0020000D": 1}'), BadInput, "no series"),
        (answer(200, b'[1, {"0020000D": {"Value": ["../x"]}}]'), BadInput, "no series"),
        (answer(200, json.dumps([found("9.9")]).encode()), BadInput, "no series"),
        (answer(200, b"<html>"), FetchFailed, "no JSON"),
        (answer(200, b" " * 2_000_000), FetchFailed, "too long"),
        (answer(404), FetchFailed, "404"),
        (answer(401), NotAllowed, "401"),
    ],
)
def test_what_is_no_answer_to_a_search(
    pacs: Site, answered: Answer, error: type[Exception], words: str
) -> None:
    pacs.answers[SEARCH] = answered
    with pytest.raises(error, match=words):
        find_study(pacs)


def test_a_series_is_searched_for_by_its_uid_only(pacs: Site) -> None:
    with pytest.raises(BadInput, match="no UID"):
        find_study(pacs, "1&x=2")
    assert not pacs.requests


def test_only_allowed_hosts_at_public_addresses_are_called(pacs: Site) -> None:
    for hosts, private, words in (
        ([], True, "is off"),
        (["pacs.example.org"], True, "may not be fetched from"),
        ([HERE], False, "not public"),
    ):
        with pytest.raises(NotAllowed, match=words) as raised:
            fetch(series_of(pacs), *hosts, private=private)
        assert "SEGSERVE_DICOMWEB" in raised.value.remedy
    resolver = FakeResolver(pacs_example_org=[INNER])
    source = DicomwebSource(f"http://pacs.example.org:{pacs.port}", STUDY)
    with pytest.raises(NotAllowed, match="not public"):
        fetch(source, "pacs.example.org", private=False, resolve=resolver)
    assert not pacs.requests


@pytest.mark.parametrize(
    "source",
    [
        DicomwebSource("ftp://127.0.0.1", STUDY),
        DicomwebSource("http://user:word@127.0.0.1", STUDY),
        DicomwebSource("http://127.0.0.1", "../../x"),
        DicomwebSource("http://127.0.0.1", STUDY, "1/2"),
        DicomwebSource("http://127.0.0.1", "1" * 65),
    ],
)
def test_what_is_no_source_is_refused(source: DicomwebSource) -> None:
    with pytest.raises(BadInput) as raised:
        fetch(source, HERE)
    assert str(raised.value.field).startswith("dicomweb.")


def test_a_fetch_ends_in_time(pacs: Site) -> None:
    def hang(to: Any) -> None:
        to.send_response(200)
        to.send_header("content-type", MULTIPART)
        to.end_headers()
        to.wfile.write(b"--b-1\r\n")
        to.wfile.flush()
        to.rfile.read(1)

    pacs.answers[PATH] = hang
    with pytest.raises(FetchFailed, match="took longer"):
        fetch(series_of(pacs), HERE, timeout_s=0.3)


def test_the_service_takes_a_series_by_url(pacs: Site, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", dicomweb_hosts=f'["{HERE}"]', dicomweb_private="true",
                    dicomweb_authorization="Basic eDp5")  # fmt: skip
    try:
        body = {"dicomweb": {"url": pacs.url + "/dicom-web", "study": STUDY, "series": SERIES}}
        reply = server.client.post("/v1/files", json=body)
        assert reply.status_code == 201, reply.text
        assert (reply.json()["kind"], reply.json()["frames"]) == ("volume", 5)
        assert pacs.headers["authorization"] == "Basic eDp5"
        again = server.client.post("/v1/files", json=body)
        assert again.json() == reply.json()
        pacs.answers[PATH] = answer(404)
        refused = server.client.post("/v1/files", json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, "dicomweb.url")
        for wrong, field in (
            ({"dicomweb": {"url": pacs.url, "study": "x"}}, "dicomweb.study"),
            ({"url": pacs.url}, "dicomweb"),
        ):
            refused = server.client.post("/v1/files", json=wrong)
            assert (refused.status_code, field in refused.text) == (422, True)
        assert "eDp5" not in server.log.read_text()
    finally:
        server.stop()


def test_grpc_takes_a_series_by_url_as_rest_does(pacs: Site, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", grpc_port="0", dicomweb_hosts=f'["{HERE}"]', dicomweb_private="true")
    try:
        source = {"url": pacs.url + "/dicom-web", "study": STUDY, "series": SERIES}
        by_rest = server.client.post("/v1/files", json={"dicomweb": source}).json()
        first = files_pb2.UploadFileRequest(
            dicomweb=files_pb2.DicomwebSource(**source), options=files_pb2.FileOptions(time=0)
        )
        with grpc.insecure_channel(server.grpc_address()) as channel:
            stub = FileServiceStub(channel)
            plain = files_pb2.UploadFileRequest(dicomweb=first.dicomweb)
            assert stub.UploadFile(iter([plain])).file.file_id == by_rest["file_id"]
            chosen = stub.UploadFile(iter([first])).file
            assert (chosen.file_id != by_rest["file_id"], chosen.contents[0].taken_time) == (True, 0)
            both = files_pb2.UploadFileRequest(dicomweb=first.dicomweb, chunk=b"x")
            wrong = files_pb2.UploadFileRequest(dicomweb=files_pb2.DicomwebSource(url=pacs.url, study="x"))
            for request, field in ((both, "chunk"), (wrong, "dicomweb.study")):
                code, details = read_refusal(stub.UploadFile, iter([request]))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert details["BadRequest"].field_violations[0].field == field
    finally:
        server.stop()
