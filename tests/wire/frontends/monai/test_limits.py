"""Limits on what MONAI Label's clients send, and on the memory of what they get."""

import asyncio
import io
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request
from PIL import Image

from segserve.app import Service
from segserve.errors import BadInput, Busy, TooLarge
from segserve.files.volume_geometry import VolumeGeometry
from segserve.rendering.source_file import IDENTITY_DIRECTION
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, MB, Crop, Size
from segserve.wire.frontends.json_body import parse_json
from segserve.wire.frontends.monai import infer, routes, volumes, whole_volume
from segserve.wire.frontends.monai.datastore import Datastore
from segserve.wire.frontends.monai.forms import MAX_FILES, MAX_SESSION_FILES, SentFile, open_form
from segserve.wire.frontends.monai.models import TaskKind
from segserve.wire.frontends.monai.params import InferIn
from segserve.wire.frontends.monai.results import Labels
from segserve.wire.frontends.monai.sessions import MonaiSessions
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.frontends.sent_images import SentImages


class WatchedFile(io.BytesIO):
    """Remembers the most bytes that were read at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data


def write_png(side: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def open_volumes(folder: Path, **options: Any) -> tuple[Service, Volumes]:
    service = Service(Settings(data_dir=folder, redis_url="unix:///nowhere", **options))
    return service, Volumes(service, SentImages(service))


def make_volume(x: int, y: int, z: int) -> Volume:
    return Volume(
        VolumeGeometry((x, y, z), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY_DIRECTION, is_placed=False), None
    )


def test_a_picture_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    _, store = open_volumes(tmp_path, max_image_mb=1)
    file = WatchedFile(write_png(16) + b"\0" * MB)
    with pytest.raises(TooLarge, match="larger than 1 MB"):
        asyncio.run(store.add(file))
    assert file.most < MB // 2


def test_a_picture_is_stored_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large picture is never in memory as a whole."""
    service, store = open_volumes(tmp_path)
    file, stored = WatchedFile(write_png(1200)), []

    class StoppedError(Exception):
        pass

    async def add(_tenant: str, sent: BinaryIO, _options: Any) -> None:
        stored.append(sent)
        raise StoppedError

    monkeypatch.setattr(service.images, "add", add)
    with pytest.raises(StoppedError):
        asyncio.run(store.add(file))
    assert stored == [file]
    assert len(file.getvalue()) > 4 * MB
    assert file.most <= 1 << 20


def send_files(count: int, max_files: int, size: int = 1) -> httpx.Response:
    """Send files to a route that answers how many of them it holds in memory."""
    api = FastAPI()

    @api.put("/")
    async def count_in_memory(request: Request) -> int:
        async with open_form(request, max_files) as form:
            files = [cast("SpooledTemporaryFile[bytes]", each.file) for each in form.files("files")]
            assert [len(file.read()) for file in files] == [size] * count
            return sum(not file._rolled for file in files)  # type: ignore[attr-defined]

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
            return await client.put("/", files=[("files", ("a.dcm", b"a" * size))] * count)

    return asyncio.run(send())


@pytest.mark.parametrize("most", [MAX_FILES, MAX_SESSION_FILES])
def test_forms_have_few_files(most: int) -> None:
    assert send_files(most, most).status_code == 200
    refused = send_files(most + 1, most)
    assert refused.status_code == 400
    assert "Too many files" in refused.text


def test_files_of_forms_take_little_memory() -> None:
    assert send_files(3, 3, 64 << 10).json() == 3
    assert send_files(3, 3, (64 << 10) + 1).json() == 0


def test_only_sessions_have_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _ = open_volumes(tmp_path)
    api = FastAPI()
    routes.add_routes(api, cast(Any, SimpleNamespace(service=service, sent_images=SentImages(service))))

    async def find_task(_service: Service, _model: str) -> Any:
        return SimpleNamespace(bundle=SimpleNamespace(name="net"))

    async def open_none(_sessions: Any, files: list[SentFile]) -> tuple[str, dict[str, int]]:
        return "id", {"files": len(files)}

    monkeypatch.setattr(routes, "find_task", find_task)
    monkeypatch.setattr(MonaiSessions, "open", open_none)

    async def send(method: str, path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
            return await client.request(method, path, files=[("files", ("a.dcm", b"a"))] * (MAX_FILES + 1))

    async def send_all() -> None:
        opened = await send("PUT", "/monai/session/")
        assert opened.json()["session_info"] == {"files": MAX_FILES + 1}
        for method, path in [
            ("POST", "/monai/infer/net"),
            ("PUT", "/monai/datastore/?image=a"),
            ("PUT", "/monai/datastore/label?image=a"),
        ]:
            refused = await send(method, path)
            assert refused.status_code == 400
            assert "Too many files" in refused.text

    asyncio.run(send_all())


@pytest.mark.parametrize("kind", list(TaskKind))
def test_a_volume_of_too_many_voxels_is_not_segmented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: TaskKind
) -> None:
    """Each slice of a stack is small, and together they are not."""
    service, store = open_volumes(tmp_path, max_volume_megavoxels=1)
    runs = []

    async def segment(*_: Any) -> Labels:
        runs.append(kind)
        return Labels(np.zeros((1, 1, 1), np.uint8), {}, {}, "net")

    monkeypatch.setitem(infer.TASKS, kind, segment)

    async def run(volume: Volume) -> None:
        async with infer.run_task(
            service, store, cast(Any, SimpleNamespace(kind=kind)), volume, InferIn()
        ) as labels:
            assert labels.model == "net"

    asyncio.run(run(make_volume(1000, 100, 10)))
    with pytest.raises(TooLarge, match="megavoxels; up to 1 "):
        asyncio.run(run(make_volume(1000, 100, 11)))
    assert runs == [kind]


def test_labels_share_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices can still be read meanwhile: what reads has a budget of its own."""
    monkeypatch.setattr(volumes, "MAX_IMAGE_MEMORY_WAIT_S", 0.05)
    service, store = open_volumes(tmp_path, image_memory_mb=1024, max_volume_megavoxels=1000)
    large = make_volume(1000, 1000, 100)  # 300 MB of 384 MB

    async def run() -> None:
        with pytest.raises(TooLarge, match="of memory"):
            async with store.hold_labels(make_volume(1000, 1000, 200)):
                pass
        async with store.hold_labels(large):
            async with service.image_memory.hold(service.image_memory.max_bytes):
                pass
            with pytest.raises(Busy):
                async with store.hold_labels(large):
                    pass
        async with store.hold_labels(large):
            pass

    asyncio.run(run())


def make_objects(count: int) -> Any:
    crop = Crop(np.ones((1, 1), bool), 0, 0, Size(count, 1))
    return SimpleNamespace(objects=[SimpleNamespace(crop=replace(crop, x=x)) for x in range(count)])


def test_objects_are_numbered_through_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, store = open_volumes(tmp_path)
    found = [make_objects(2), make_objects(0), make_objects(3)]

    async def get_slice(_volume: Volume, k: int, _window: Any) -> str:
        return f"{k:064x}"

    async def find_objects(*_: Any) -> Any:
        return found.pop(0)

    monkeypatch.setattr(store, "get_slice", get_slice)
    monkeypatch.setattr(whole_volume, "validate_body", lambda *_: None)
    monkeypatch.setattr(whole_volume.automatic, "find_objects", find_objects)
    task = cast(Any, SimpleNamespace(bundle=SimpleNamespace(name="net")))
    labels = asyncio.run(
        whole_volume.find_all_objects(
            service, store, task, make_volume(3, 1, 3), InferIn(separate_objects=True)
        )
    )
    assert labels.values.tolist() == [[[1, 2, 0]], [[0, 0, 0]], [[3, 4, 5]]]
    assert labels.details["objects"] == 5


def test_more_objects_than_numbers_are_refused() -> None:
    values = np.zeros((1, 2), np.uint16)
    whole_volume.draw_objects(values, make_objects(2), 65533)
    assert values.tolist() == [[65534, 65535]]
    with pytest.raises(TooLarge, match="65535 objects"):
        whole_volume.draw_objects(values, make_objects(2), 65534)


def test_a_large_body_of_a_batch_is_parsed_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _ = open_volumes(tmp_path)
    threads = []

    async def find_task(_service: Service, _model: str) -> Any:
        return SimpleNamespace(takes_clicks=False, name="net")

    def parse(data: bytes, max_values: int) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse_json(data, max_values)

    monkeypatch.setattr(routes, "find_task", find_task)
    monkeypatch.setattr(routes, "parse_json", parse)
    answers = routes.MonaiRoutes(cast(Any, SimpleNamespace(service=service, sent_images=SentImages(service))))

    async def body() -> bytes:
        return b'{"label_tag": "?", "more": "' + b"a" * (32 << 10) + b'"}'

    with pytest.raises(BadInput, match="no tag"):
        asyncio.run(answers.start_batch(cast(Any, SimpleNamespace(body=body)), "net"))
    assert threads == [False]


def test_what_is_said_of_an_image_counts_towards_the_quota(tmp_path: Path) -> None:
    service = Service(Settings(data_dir=tmp_path, quota_mb=1))
    store, quota = Datastore(service), service.storage.images.quota

    async def run() -> None:
        await service.storage.start()
        await store.put_image("scan", SentFile("scan.png", io.BytesIO(write_png(8))), {})
        await store.update_info("scan", None, {"a": 1})
        used = await service.storage.counts.read(DEFAULT_TENANT)
        async with quota.reserve(DEFAULT_TENANT, MB - used.bytes):
            pass
        with pytest.raises(TooLarge, match="quota"):
            await store.update_info("scan", None, {"a": 2})
        # An image that is known by its UID alone: its record is written before the label.
        with pytest.raises(TooLarge, match="quota"):
            await store.put_label("1.2.3", "final", SentFile("a.png", io.BytesIO(write_png(8))), {})
        assert list(await store.describe_all()) == ["scan"]
        assert (await store.get_image("scan")).info == {"a": 1}
        await service.storage.close_cache()
        await service.storage.stop_redis()

    asyncio.run(run())
