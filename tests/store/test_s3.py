"""The object store on a real S3 API: large objects, lists and deletions by pages, signed URLs, keys, retries."""

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from segserve.errors import BadInput, NotAllowed, Unavailable
from segserve.store import object_store
from segserve.store.object_store import ObjectStore, open_store
from segserve.store.signing_secret import SigningSecret
from tests.http_listener import listening
from tests.s3 import BUCKET, S3Server

URL = f"s3://{BUCKET}/prefix"
HOUR = timedelta(hours=1)
AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}

pytest.importorskip("moto", reason="moto is not installed")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict_s3() -> Iterator[S3Server]:
    server = S3Server(checks_keys=True)
    yield server
    server.stop()


@pytest.fixture
def objects(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(URL, tmp_path)


def test_replicas_that_start_at_once_sign_by_one_secret(objects: ObjectStore) -> None:
    async def load() -> set[bytes]:
        return set(await asyncio.gather(*(SigningSecret(objects, None).load() for _ in range(8))))

    assert len(asyncio.run(load())) == 1


def test_a_large_object_goes_and_comes_in_parts(objects: ObjectStore, s3: S3Server) -> None:
    """obstore sends what is over 5 MB as a multipart upload."""
    content = os.urandom(12_000_000)

    async def work() -> bytes:
        await objects.put("t/files/a/bytes", BytesIO(content))
        parts = await objects.stream("t/files/a/bytes")
        assert parts is not None
        return b"".join([part async for part in parts])

    assert asyncio.run(work()) == content
    tag = s3.client.head_object(Bucket=BUCKET, Key="prefix/t/files/a/bytes")["ETag"]
    assert "-" in tag, "an ETag of several parts has their number behind a hyphen"


@pytest.mark.large  # it stores a thousand objects, for which moto takes 10 s
def test_lists_and_deletions_have_pages(objects: ObjectStore) -> None:
    """S3 lists, and deletes, 1000 at a time."""

    async def work() -> None:
        await asyncio.gather(*(objects.put(f"t/many/{number:05}", b"x") for number in range(1002)))
        listed = await objects.list("t/many/")
        assert len(listed) == 1002
        assert {stored.size for stored in listed} == {1}
        await objects.delete([stored.path for stored in listed])
        assert await objects.list("t/many/") == []
        await objects.delete([stored.path for stored in listed[:2]])  # what is not there counts as deleted

    asyncio.run(work())


def test_signed_urls_need_no_keys(objects: ObjectStore) -> None:
    """moto does not check signatures of URLs; Amazon does."""

    async def sign() -> tuple[str, str]:
        [put] = await objects.sign("PUT", ["t/signed"], HOUR)
        [get] = await objects.sign("GET", ["t/signed"], HOUR)
        return put, get

    put, get = asyncio.run(sign())
    assert httpx.put(put, content=b"content", headers=objects.upload_headers).status_code == 200
    assert httpx.get(get).content == b"content"
    assert asyncio.run(objects.get("t/signed")) == b"content"
    assert "X-Amz-Signature=" in put
    assert "X-Amz-Expires=3600" in put


def test_a_folder_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        asyncio.run(open_store(None, tmp_path).sign("GET", ["a"], HOUR))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_told_at_the_start(
    strict_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for variable, value in strict_s3.environment.items():
        monkeypatch.setenv(variable, value)
    asyncio.run(open_store(URL, tmp_path).check())
    monkeypatch.setenv(name, "wrong-key")
    with pytest.raises(BadInput, match="refuses the keys") as refusal:
        asyncio.run(open_store(URL, tmp_path).check())
    assert "wrong-key" not in str(refusal.value)


def test_a_bucket_that_is_not_there_is_told_at_the_start(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        asyncio.run(open_store("s3://none/prefix", tmp_path).check())


def test_a_store_that_fails_now_and_then_is_asked_again(
    objects: ObjectStore, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first two answers are errors of the server; the third one is passed on."""
    asyncio.run(objects.put("t/flaky", b"content"))
    seen = list[str]()

    class Flaky(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            if len(seen) <= 2:
                self.send_response(503)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            answer = httpx.get(s3.url + self.path, headers={**headers, "host": self.headers["host"]})
            self.send_response(answer.status_code)
            for name in ("content-length", "etag", "last-modified"):
                self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    with listening(server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert asyncio.run(open_store(URL, tmp_path).get("t/flaky")) == b"content"
    assert len(seen) == 3


def test_a_store_that_is_away_is_told_in_time(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_store, "RETRY_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = open_store(URL, tmp_path)
    with pytest.raises(Unavailable) as refusal:
        asyncio.run(away.put("t/a", b"x"))
    assert refusal.value.retry_after_s > 0
    asyncio.run(away.check())  # it may come back: no reason not to start


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("gs://bucket/prefix", {"GOOGLE_SKIP_SIGNATURE": "true"}),
        ("az://container/prefix", AZURE),
    ],
)
def test_other_clouds_are_opened_by_their_urls(
    url: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_store(url, tmp_path).can_sign


def test_azure_signs_with_its_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    objects = open_store("az://container/prefix", tmp_path)
    [url] = asyncio.run(objects.sign("PUT", ["t/a"], HOUR))
    assert "prefix/t/a" in url
    assert "sig=" in url
    assert objects.upload_headers == {"x-ms-blob-type": "BlockBlob"}
