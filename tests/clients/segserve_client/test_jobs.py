"""Jobs by the client: results as they come, each once, also where the service is killed and started again meanwhile."""

import asyncio
import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from segserve_client import (
    AsyncClient,
    Client,
    Frame,
    FramePrompt,
    Item,
    Job,
    JobFailed,
    JobNotFound,
    JobStillRunning,
    Prompt,
    RetryPolicy,
    SegmentAnswer,
)
from tests import moving_cells
from tests.serving import Server

VALUES, LABELS = moving_cells.draw_volume()
MIDDLE = 10
# Machines are slow under load: a service that was killed is waited for as long as a test may take.
PATIENT = RetryPolicy(give_up_s=90)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, retry=PATIENT) as client:
        yield client


def centre(label: int, index: int) -> tuple[float, float]:
    ys, xs = np.nonzero(LABELS[index] == label)
    return float(xs.mean()), float(ys.mean())


def pictures(count: int) -> list[np.ndarray]:
    """So many small pictures, each another one."""
    picture = np.array(Pillow.open(Path(__file__).parents[3] / "examples" / "nuclei.png").convert("L"))
    return [picture[number : number + 120, 300:440] for number in range(count)]


# Few pictures for the first chunk of 32, so that it is soon there; many for what is left when the service is killed.
MANY = pictures(4) * 8 + pictures(20)


def collect(job: Job[Item], items: list[Item]) -> None:
    for item in job:
        items.append(item)


def kill_after(server: Server, is_time: threading.Event) -> threading.Thread:
    """Kill the service once it is time, and start it again at the same address."""

    def run() -> None:
        assert is_time.wait(timeout=90)
        server.kill()
        server.start()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


class ServerWithPort(Server):
    """A service that has the same address whenever it starts."""

    def __init__(self, data_dir: Path, port: int, **env: str) -> None:
        self.arguments = ("serve", "--port", str(port))
        super().__init__(data_dir, **env)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that tests kill and start again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    server = ServerWithPort(tmp_path_factory.mktemp("mortal"), port, job_lease_s="3")
    server.wait_ready()
    yield server
    assert server.stop() == 0, server.log.read_text()


def test_a_batch_goes_on_where_the_service_was_killed(mortal: Server) -> None:
    is_time = threading.Event()
    with Client(mortal.url, retry=PATIENT) as client:
        job = client.batch(MANY, params={"min_size": 20})
        thread = kill_after(mortal, is_time)
        items: list[Item] = []
        for item in job:
            items.append(item)
            is_time.set()  # the first chunk of 32 is there, and others are not
        thread.join()
    assert [item.index for item in items] == list(range(len(MANY))), "nothing twice, nothing missing"
    assert all(item.error is None and item.objects.width == 140 for item in items)


def test_a_video_goes_on_where_the_service_was_killed(mortal: Server) -> None:
    is_time = threading.Event()
    with Client(mortal.url, retry=PATIENT) as client:
        job = client.video(VALUES, {2: FramePrompt(0, points=centre(2, 0))}, direction="forward")
        thread = kill_after(mortal, is_time)
        frames: list[Frame] = []
        for frame in job:
            frames.append(frame)
            is_time.set()  # the first chunk of 8 is there
        thread.join()
        again = list(client.job(job.job_id))
    assert [frame.index for frame in frames] == list(range(len(VALUES))), "nothing twice, nothing missing"
    assert [frame.raw for frame in frames] == [frame.raw for frame in again]
    assert sum(frame.find(2) is not None for frame in frames) > 10


def test_events_go_on_where_the_service_was_killed(mortal: Server) -> None:
    async def run() -> list[int]:
        is_time, done = threading.Event(), list[int]()
        async with AsyncClient(mortal.url, retry=PATIENT) as client:
            job = await client.batch(MANY, params={"min_size": 20})
            thread = kill_after(mortal, is_time)
            async for info in job.events():
                done.append(info.done)
                if info.done:
                    is_time.set()
            await asyncio.to_thread(thread.join)
            assert (await job.wait()).state == "succeeded"
            assert [item.index async for item in job] == list(range(len(MANY)))
        return done

    done = asyncio.run(run())
    assert done == sorted(done)
    assert done[-1] == len(MANY)


def test_a_broken_file_among_many(tmp_path: Path, client: Client) -> None:
    paths = []
    for number, picture in enumerate(pictures(4)):
        paths.append(tmp_path / f"{number}.png")
        Pillow.fromarray(picture).save(paths[-1])
    paths[1].write_bytes(b"no picture")
    paths.append(tmp_path / "missing.png")
    sent: list[tuple[int, int | None]] = []
    job = client.batch(paths, on_progress=lambda done, total: sent.append((done, total)))
    items = {item.index: item for item in job}
    assert sent == [(number, 5) for number in range(1, 6)]
    assert sorted(items) == [0, 1, 2, 3, 4]
    assert [items[number].name for number in range(5)] == [path.name for path in paths]
    broken, missing = items[1].error, items[4].error
    assert broken is not None
    assert broken.field == "file"
    assert missing is not None
    assert "missing.png" in missing.detail
    with pytest.raises(type(broken), match="no image format"):
        _ = items[1].objects
    assert all(items[number].objects.objects for number in (0, 2, 3))
    with pytest.raises(type(broken)):
        client.batch([b"no picture"])


def test_prompts_for_each_image_of_a_batch(client: Client) -> None:
    images = [client.image(picture) for picture in pictures(2)]
    prompts = [[Prompt(points=(70, 60)), Prompt(points=(20, 20))], [Prompt(points=(70, 60))]]
    items = list(client.batch(images, "segment", prompts=prompts, names=["a", "b"]))
    answers = [item.result for item in items if isinstance(item.result, SegmentAnswer)]
    assert [item.name for item in items] == ["a", "b"]
    assert [len(answer.masks) for answer in answers] == [2, 1]
    assert answers[0].masks[0][0].rle == images[0].segment(points=(70, 60)).rle


def test_a_volume_a_correction_and_downloads(client: Client, tmp_path: Path) -> None:
    stored = client.upload(VALUES)
    job = client.volume(stored, {1: FramePrompt(MIDDLE, points=centre(1, MIDDLE))}, names={1: "a cell"})
    first = {frame.index: frame for frame in job}
    assert set(first) == set(range(len(VALUES)))
    found = first[MIDDLE].find(1)
    assert found is not None
    truth = LABELS[MIDDLE] == 1
    assert (found.array & truth).sum() / (found.array | truth).sum() > 0.7
    np.testing.assert_array_equal(first[MIDDLE].labels == 1, found.array)
    info = job.add_prompts({3: FramePrompt(MIDDLE, box=(175, 28, 210, 60))})
    assert not info.has_ended
    second = {frame.index: frame for frame in job}
    assert second[MIDDLE].find(3) is not None
    assert second[MIDDLE].find(1) is not None
    sizes: list[int] = []
    path = job.download("tiff", tmp_path / "maps.zip", on_progress=lambda done, _: sizes.append(done))
    assert path.stat().st_size == sizes[-1]
    assert len(zipfile.ZipFile(path).namelist()) == len(VALUES)
    assert b"a cell" in job.read("coco")
    with pytest.raises(Exception, match="mp4"):
        job.download("mp4", tmp_path / "clip.mp4")
    assert [item.name for item in tmp_path.iterdir()] == ["maps.zip"], "nothing half-written"


def test_a_correction_within_the_loop_makes_later_frames_come_again(client: Client) -> None:
    job = client.video(VALUES, {1: FramePrompt(2, points=centre(1, 2))}, direction="forward")
    indices: list[int] = []
    for frame in job:
        indices.append(frame.index)
        if indices.count(12) == 1 and frame.index == 12:
            job.add_prompts({1: FramePrompt(12, points=centre(1, 12))})
    assert set(indices) == set(range(2, len(VALUES)))
    assert indices.count(12) >= 2, "what the correction changes came again"
    lines = [frame.index for frame in client.job(job.job_id)]
    kept = len(indices) - indices.index(12) - 1  # what came after the correction is the end of what there is
    assert indices[-kept:] == lines[-kept:]


def test_all_objects_of_a_volume_and_tracks(client: Client) -> None:
    part = VALUES[8:14]
    volume = {frame.index: frame for frame in client.volume(part)}
    assert set(volume) == set(range(6))
    assert any(frame.objects for frame in volume.values())
    tracks = list(client.track(part, linking={"min_track_frames": 1}))
    assert [frame.index for frame in tracks] == list(range(6))
    assert len({item.object_id for frame in tracks for item in frame.objects}) >= 3


def test_the_same_key_is_the_same_job(client: Client) -> None:
    image = client.image(pictures(1)[0])
    first = client.batch([image], "embed", idempotency_key="key of this test")
    second = client.batch([image], "embed", idempotency_key="key of this test")
    assert first.job_id == second.job_id != client.batch([image], "embed").job_id
    assert first.wait().done == 1
    assert first.job_id in [info.job_id for info in client.jobs()]


def test_a_cancelled_job_says_so_and_is_taken_up_again(client: Client) -> None:
    job = client.batch(pictures(2) * 300, params={"min_size": 20})
    with pytest.raises(JobStillRunning):
        job.wait(timeout_s=0)
    job.cancel()
    with pytest.raises(JobFailed, match="ended as cancelled") as failed:
        job.wait()
    assert failed.value.job.state == "cancelled"
    items: list[Item] = []
    with pytest.raises(JobFailed):
        collect(job, items)
    assert len(items) == job.info.done
    job.retry()
    assert next(job.results(len(items))).index == len(items)
    job.cancel()
    job.cancel()  # sent twice it deletes nothing
    job.delete()
    with pytest.raises(JobNotFound):
        client.job(job.job_id)


def test_the_same_to_await(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.url, retry=PATIENT) as client:
            job = await client.video(
                VALUES, {1: FramePrompt(MIDDLE, points=centre(1, MIDDLE))}, direction="forward"
            )
            frames = [frame.index async for frame in job]
            assert frames == list(range(MIDDLE, len(VALUES)))
            await job.add_prompts({3: FramePrompt(MIDDLE, box=(175, 28, 210, 60))})
            corrected = [frame async for frame in (await client.job(job.job_id)).results()]
            assert any(frame.find(3) for frame in corrected)
            out = io.BytesIO()
            await job.download_to("png", out)
            assert zipfile.ZipFile(out).namelist()

    asyncio.run(run())
