"""Large files straight to the object store and back, by signed URLs, with a real S3 API behind the service."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from segserve.errors import NotAllowed, SegserveError, TenantDeleted, TooLarge
from segserve.files import direct_uploads
from segserve.files.direct_uploads import DirectUploads, PlannedUpload
from segserve.identity.identity import LOCAL_IDENTITY, current_identity
from segserve.store.object_store import ObjectStore, open_store
from segserve.types import FileOptions
from segserve.wire.rest.direct_uploads import add_routes
from segserve_client import AsyncClient, Client, RetryPolicy
from segserve_client.direct_uploads import UploadPart, UploadPlan, send_part
from segserve_client.transport import Transport
from segserve_client.uploads import Upload
from tests.files import sample_files
from tests.s3 import BUCKET, S3Server
from tests.serving import Server

pytest.importorskip("moto", reason="moto is not installed")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    running = S3Server()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        running = Server(
            tmp_path_factory.mktemp("direct"), object_store=f"s3://{BUCKET}/p", signed_urls="true"
        )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    entries = {f"{number}.png": sample_files.encode_frame(number) for number in range(3)}
    return sample_files.write_zip(tmp_path_factory.mktemp("zip") / "a.zip", entries).read_bytes()


def begin(server: Server, content: bytes, **body: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/uploads", json={"size": len(content), **body})
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    return begun


def send(begun: dict[str, Any], content: bytes) -> None:
    for part in begun["parts"]:
        piece = content[part["offset"] : part["offset"] + part["size"]]
        assert httpx.put(part["url"], content=piece, headers=begun["headers"]).status_code == 200


def complete(server: Server, begun: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"/v1/uploads/{begun['upload_id']}/complete")


def test_a_file_is_sent_probed_stored_and_fetched(server: Server, s3: S3Server, stack: bytes) -> None:
    begun = begin(server, stack, sha256=hashlib.sha256(stack).hexdigest())
    send(begun, stack)
    answer = complete(server, begun)
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert file["file_id"] == hashlib.sha256(stack).hexdigest()
    assert file["frames"] == 3
    assert server.client.get(f"/v1/files/{file['file_id']}").json() == file
    assert not [path for path in s3.paths() if "/uploads/" in path], "the parts are gone"
    url = server.client.get(f"/v1/files/{file['file_id']}/url").json()["url"]
    assert httpx.get(url).content == stack
    assert complete(server, begun).status_code == 404


def test_what_is_no_file_is_deleted(server: Server, s3: S3Server) -> None:
    content = b"no picture, and no video"
    begun = begin(server, content)
    send(begun, content)
    assert complete(server, begun).status_code == 415
    assert not [path for path in s3.paths() if "/uploads/" in path]
    assert complete(server, begun).status_code == 404


def test_another_content_than_announced_is_refused(server: Server, stack: bytes) -> None:
    begun = begin(server, stack, sha256="0" * 64)
    send(begun, stack)
    answer = complete(server, begun)
    assert answer.status_code == 422
    assert answer.json()["field"] == "sha256"


def test_a_part_that_is_missing_or_short_can_be_sent_again(server: Server, stack: bytes) -> None:
    begun = begin(server, stack, series=None)
    answer = complete(server, begun)
    assert answer.status_code == 422
    assert "is not there" in answer.json()["detail"]
    send(begun, stack[:-1])
    assert f"has {len(stack) - 1} bytes" in complete(server, begun).json()["detail"]
    send(begun, stack)
    assert complete(server, begun).status_code == 201


def test_an_upload_is_given_up(server: Server, s3: S3Server, stack: bytes) -> None:
    begun = begin(server, stack)
    send(begun, stack)
    path = f"/v1/uploads/{begun['upload_id']}"
    assert server.client.delete(path).status_code == 204
    assert server.client.delete(path).status_code == 404
    assert not [stored for stored in s3.paths() if begun["upload_id"] in stored]


def test_the_size_and_the_number_of_uploads_are_bounded(server: Server) -> None:
    answer = server.client.post("/v1/uploads", json={"size": 5_000_000_000})
    assert answer.status_code == 413
    assert answer.json()["field"] == "size"
    begun = [begin(server, b"x") for _ in range(direct_uploads.MAX_OPEN_UPLOADS)]
    assert server.client.post("/v1/uploads", json={"size": 1}).status_code == 403
    for each in begun:
        server.client.delete(f"/v1/uploads/{each['upload_id']}")


def test_a_large_file_has_several_parts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = server.client.post("/v1/uploads", json={"size": 300_000_000}).json()
    assert [part["size"] for part in answer["parts"]] == [128_000_000, 128_000_000, 44_000_000]
    assert [part["offset"] for part in answer["parts"]] == [0, 128_000_000, 256_000_000]
    assert len({part["url"] for part in answer["parts"]}) == 3
    server.client.delete(f"/v1/uploads/{answer['upload_id']}")


def test_a_service_without_signed_urls_says_where_to_send_files(tmp_path: Path) -> None:
    server = Server(tmp_path)
    answer = server.client.post("/v1/uploads", json={"size": 1})
    assert answer.status_code == 403
    assert "POST /v1/files" in answer.json()["remedy"]
    server.stop()


@pytest.mark.parametrize("is_async", [False, True])
def test_the_client_of_python_sends_large_files_there(
    server: Server, stack: bytes, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    monkeypatch.setattr("segserve_client.direct_uploads.MIN_BYTES", 1)
    sent = list[int]()
    other = stack + bytes(1 + is_async)  # another file_id
    before = server.log.read_text().count("/complete")

    def note(done: int, total: int | None) -> None:
        assert total == len(other)
        sent.append(done)

    async def upload() -> str:
        async with AsyncClient(server.url, api_key="none") as client:
            return (await client.upload(other, on_progress=note)).file_id

    if is_async:
        file_id = asyncio.run(upload())
    else:
        with Client(server.url, api_key="none") as client:
            file_id = client.upload(other, on_progress=note).file_id
    assert file_id == hashlib.sha256(other).hexdigest()
    assert sent[-1] == len(other)
    deadline = time.monotonic() + 60
    while server.log.read_text().count("/complete") == before:  # it is written after the answer
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.log.read_text().count("/complete") == before + 1


def test_the_client_sends_each_part_by_its_own_and_no_key_with_it() -> None:
    content, file = bytes(range(10)), BytesIO(bytes(range(10)))
    plan = UploadPlan(
        "id", (UploadPart(0, 4, "http://b/1?s=x"), UploadPart(4, 6, "http://b/2?s=y")), {"h": "v"}
    )
    seen = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    progress = list[tuple[int, int | None]]()
    upload = Upload(file, len(content), lambda done, total: progress.append((done, total)))
    transport = Transport(httpx.Client(transport=httpx.MockTransport(answer)), RetryPolicy())
    for part in plan.parts:
        transport.call(send_part(plan, part, upload))
    transport.close()
    assert [request.read() for request in seen] == [content[:4], content[4:]]
    assert [str(request.url) for request in seen] == [part.url for part in plan.parts]
    assert [request.headers["h"] for request in seen] == ["v", "v"]
    assert progress == [(4, 10), (10, 10)]


def test_the_client_goes_to_the_service_where_there_are_no_signed_urls(
    tmp_path: Path, stack: bytes, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr("segserve_client.direct_uploads.MIN_BYTES", 1)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/uploads":
            return httpx.Response(405, json={"type": "urn:segserve:problem:not_allowed", "detail": "no"})
        return httpx.Response(201, json=json.loads(known))

    known = server.client.post("/v1/files", content=stack).text
    http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service")
    with Client("http://service", http=http) as client:
        assert client.upload(stack).frames == 3


def test_uploads_that_nobody_completes_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_store(f"file://{tmp_path}", tmp_path)

    async def work() -> list[str]:
        uploads = create_uploads(objects)
        for name in ("t/uploads/abcdefghijklmnop/record.json", "t/uploads/abcdefghijklmnop/00001"):
            await objects.put(name, b"x")
        monkeypatch.setattr(direct_uploads, "LIFETIME", -direct_uploads.LIFETIME)
        task = asyncio.create_task(uploads.expire())
        while await objects.list("t/uploads/"):
            await asyncio.sleep(0.01)
        task.cancel()
        return [stored.path for stored in await objects.list("t/")]

    assert asyncio.run(asyncio.wait_for(work(), 30)) == []


def create_uploads(objects: ObjectStore) -> DirectUploads:
    unused: Any = None
    return DirectUploads(objects, unused, unused, allowed=True, max_bytes=1)


def test_parts_that_come_after_the_end_of_their_upload_are_deleted(tmp_path: Path) -> None:
    objects = open_store(f"file://{tmp_path}", tmp_path)
    kept = ["t/uploads/bbbbbbbbbbbbbbbb/00001", "t/uploads/bbbbbbbbbbbbbbbb/record.json"]

    async def follow() -> list[str]:
        for name in ("t/uploads/aaaaaaaaaaaaaaaa/00001", *kept):
            await objects.put(name, b"x")
        task = asyncio.create_task(create_uploads(objects).expire())
        while await objects.list("t/uploads/aaaaaaaaaaaaaaaa/"):
            await asyncio.sleep(0.01)
        task.cancel()
        return sorted(stored.path for stored in await objects.list("t/"))

    assert asyncio.run(asyncio.wait_for(follow(), 30)) == kept


class RecordedQuota:
    def __init__(self) -> None:
        self.asked = list[int]()

    async def check_room(self, tenant: str, nbytes: int, field: str) -> None:
        self.asked.append(nbytes)


def test_a_quota_counts_what_open_uploads_were_planned_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, quota = open_store(f"file://{tmp_path}", tmp_path), RecordedQuota()

    async def sign(method: str, paths: list[str], lifetime: timedelta) -> list[str]:
        return paths

    monkeypatch.setattr(ObjectStore, "can_sign", True)
    monkeypatch.setattr(objects, "sign", sign)
    uploads = DirectUploads(objects, cast(Any, None), cast(Any, quota), allowed=True, max_bytes=100_000)

    async def follow() -> None:
        await uploads.begin("t", 50_000, None, FileOptions())
        await uploads.begin("t", 7000, None, FileOptions())

    asyncio.run(follow())
    assert quota.asked == [50_000, 50_000, 57_000, 57_000]


def test_uploads_that_begin_together_are_no_more_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, count = open_store(f"file://{tmp_path}", tmp_path), direct_uploads.MAX_OPEN_UPLOADS + 4

    async def follow() -> list[str]:
        barrier = asyncio.Barrier(count)

        async def sign(method: str, paths: list[str], lifetime: timedelta) -> list[str]:
            await barrier.wait()  # all were checked, and none has a record
            return paths

        monkeypatch.setattr(ObjectStore, "can_sign", True)
        monkeypatch.setattr(objects, "sign", sign)
        quota = cast(Any, RecordedQuota())
        uploads = DirectUploads(objects, cast(Any, None), quota, allowed=True, max_bytes=100)
        beginning = (uploads.begin("t", 1, None, FileOptions()) for _ in range(count))
        begun = await asyncio.gather(*beginning, return_exceptions=True)
        refused = [each for each in begun if isinstance(each, NotAllowed)]
        stored = [each.path for each in await objects.list("t/")]
        assert len(stored) == count - len(refused)
        return stored

    assert len(asyncio.run(asyncio.wait_for(follow(), 60))) <= direct_uploads.MAX_OPEN_UPLOADS


@pytest.mark.parametrize("error", [TooLarge("It would exceed the quota."), TenantDeleted("t")])
def test_an_upload_that_finds_no_room_stays(tmp_path: Path, error: SegserveError) -> None:
    objects = open_store(f"file://{tmp_path}", tmp_path)
    plan = PlannedUpload(3, None, None, None, time.time())
    name = "t/uploads/abcdefghijklmnop"

    class Files:
        async def add(self, *_: object) -> None:
            raise error

    async def follow() -> list[str]:
        await objects.put(f"{name}/record.json", json.dumps(asdict(plan)).encode())
        await objects.put(f"{name}/00001", b"abc")
        unused = cast(Any, None)
        uploads = DirectUploads(objects, cast(Any, Files()), unused, allowed=True, max_bytes=1)
        with pytest.raises(type(error)):
            await uploads.complete("t", "abcdefghijklmnop")
        return sorted(stored.path for stored in await objects.list("t/"))

    assert asyncio.run(follow()) == [f"{name}/00001", f"{name}/record.json"]


@pytest.mark.parametrize(("left", "wanted"), [(None, 21600), (60.75, 60), (100_000, 21600), (-5, 1)])
def test_a_url_of_a_file_lives_no_longer_than_what_asked_for_it(left: float | None, wanted: int) -> None:
    lifetimes = list[timedelta]()

    class Signing:
        can_sign = True

        async def sign(self, method: str, paths: list[str], lifetime: timedelta) -> list[str]:
            lifetimes.append(lifetime)
            return ["http://bucket/file"]

    class Files:
        async def get_record(self, tenant: str, file_id: str) -> None:
            pass

    async def ask() -> float:
        objects, files, unused = cast(Any, Signing()), cast(Any, Files()), cast(Any, None)
        api = FastAPI()
        uploads = DirectUploads(objects, files, unused, allowed=True, max_bytes=1)
        add_routes(api, cast(Any, SimpleNamespace(direct_uploads=uploads)))
        current_identity.set(replace(LOCAL_IDENTITY, expires=None if left is None else time.time() + left))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://service") as client:
            answer = await client.get(f"/v1/files/{'0' * 64}/url")
        assert answer.status_code == 200, answer.text
        expires_at: float = answer.json()["expires_at"]
        return expires_at

    clock = float(int(time.time()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: clock)
        assert asyncio.run(ask()) == clock + wanted
    assert lifetimes == [timedelta(seconds=wanted)]


def test_a_plan_expires_with_its_urls() -> None:
    plan = PlannedUpload(1, None, None, None, 1000.0)
    assert plan.expires_at == 1000 + direct_uploads.LIFETIME.total_seconds()
    assert plan.part_sizes == [1]
