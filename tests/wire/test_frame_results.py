"""The results of video, volume and tracking jobs in every format, while the job runs and after."""

import asyncio
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import highdicom as hd
import httpx
import numpy as np
import orjson
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from segserve.app import Role, Service
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.masks import label_map
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, Priority, Size
from segserve.wire.rest.api import create_api
from tests.files import sample_files
from tests.files.dicom.sample_dicom import make_series
from tests.rendering.drawn_lines import draw_disc, make_line

SIZE = Size(48, 64)
FRAMES = 20
LOSSY = 40  # levels that two codecs may change a flat square by
TINT = 20  # levels of red over blue, of a grey that object 1 is drawn over


class FixedResultsRunner:
    """A job with fixed results: the lines of each chunk. None is a chunk that takes until the job is cancelled."""

    def __init__(self, chunks: Sequence[list[bytes] | None]) -> None:
        self._chunks = chunks
        self.total = FRAMES

    async def open(self, job: Job, request: bytes, *more: object) -> "FixedResultsRunner":
        return self

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        if number >= len(self._chunks):
            return None
        while (lines := self._chunks[number]) is None:
            stop.raise_if_set()
            await asyncio.sleep(0.02)
        return Chunk(lines)

    async def close(self) -> None: ...


@asynccontextmanager
async def start_service(folder: Path) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    service = Service(Settings(data_dir=folder, job_workers=False), role=Role.API)
    await service.start(warm_up=False)
    transport = httpx.ASGITransport(create_api(service))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield service, client
    finally:
        await service.stop()


class ResultsClient:
    """Reads the results of a job in any format."""

    def __init__(self, client: httpx.AsyncClient, job_id: str, file_id: str) -> None:
        self._client, self._job_id, self._file_id = client, job_id, file_id

    async def answer(self, job_format: str) -> httpx.Response:
        return await self._client.get(f"/v1/jobs/{self._job_id}/results", params={"format": job_format})

    async def __call__(self, job_format: str) -> bytes:
        answer = await self.answer(job_format)
        assert answer.status_code == 200, answer.text
        return answer.content

    async def delete_file(self) -> None:
        assert (await self._client.delete(f"/v1/files/{self._file_id}")).status_code == 204


@asynccontextmanager
async def job(
    folder: Path,
    kind: JobKind,
    path: Path,
    chunks: Sequence[list[bytes] | None],
    objects: Sequence[dict[str, Any]] = (),
    **view: Any,
) -> AsyncIterator[ResultsClient]:
    """A job of this kind on the file, when it has ended or is stuck at None. objects: of its stored request."""
    async with start_service(folder / "data") as (service, client):
        answer = await client.post("/v1/files", content=path.read_bytes())
        assert answer.status_code == 201, answer.text
        file_id = answer.json()["file_id"]
        stored = {"view": {"file_id": file_id, **view}, "engine": "projection", "objects": objects}
        request = orjson.dumps(stored)
        queue, work = service.jobs.queue, FixedResultsRunner(chunks)
        submitted = await queue.submit(DEFAULT_TENANT, kind, Priority.BATCH, "starter", request)
        worker_task = asyncio.create_task(service.jobs.create_worker({kind: work}).run())
        try:
            expected = JobState.RUNNING if None in chunks else JobState.SUCCEEDED
            before = chunks.index(None) if None in chunks else len(chunks)
            current = submitted
            while current.state is not expected or current.chunks < before:
                assert current.state in (JobState.QUEUED, JobState.RUNNING)
                await asyncio.sleep(0.02)
                current = await queue.get(DEFAULT_TENANT, submitted.job_id)
            yield ResultsClient(client, submitted.job_id, file_id)
        finally:
            worker_task.cancel()
            await asyncio.gather(worker_task, return_exceptions=True)


def draw_mask(object_id: int, frame: int) -> np.ndarray:
    return draw_disc(SIZE, 20 + frame, 20 if object_id == 1 else 36, 6)


def forward_and_backward() -> list[list[bytes] | None]:
    """Object 1 from frame 8 forward, then backward; object 70 on a few frames of its own."""
    forward = [make_line(at, {1: draw_mask(1, at)}) for at in range(8, FRAMES)]
    backward = [make_line(at, {1: draw_mask(1, at)}) for at in range(7, -1, -1)]
    return [forward, backward, [make_line(at, {70: draw_mask(70, at)}) for at in (3, 4)]]


def expected_labels(frame: int) -> np.ndarray:
    result = draw_mask(1, frame) * np.uint16(1)
    if frame in (3, 4):
        result[draw_mask(70, frame)] = 70
    return result


def decode_frames(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_video_in_all_its_formats(tmp_path: Path) -> None:
    clip = sample_files.write_video(tmp_path / "clip.mp4", FRAMES)

    async def scenario() -> None:
        async with job(tmp_path, JobKind.VIDEO, clip, forward_and_backward()) as results:
            given = [item for chunk in forward_and_backward() for item in chunk or ()]
            assert (await results("ndjson")).splitlines() == given
            for job_format, opened in (("png", Image.open), ("tiff", tifffile.imread)):
                with zipfile.ZipFile(io.BytesIO(await results(job_format))) as archive:
                    assert archive.testzip() is None
                    assert archive.namelist() == [f"frame_{at:06d}.{job_format}" for at in range(FRAMES)]
                    for at in range(FRAMES):
                        result = np.asarray(opened(io.BytesIO(archive.read(f"frame_{at:06d}.{job_format}"))))
                        assert np.array_equal(result, expected_labels(at))
            stack = tifffile.imread(io.BytesIO(await results("tiff_stack")))
            assert np.array_equal(stack, [expected_labels(at) for at in range(FRAMES)])
            check_coco(json.loads(await results("coco")))
            check_overlay(decode_frames(await results("mp4")))
            sheet = np.asarray(Image.open(io.BytesIO(await results("sheet"))))
            assert (sheet == label_map.make_colour_table([70])[1]).all(axis=2).any()
            for job_format, media_type in (("mp4", "video/mp4"), ("sheet", "image/png")):
                assert (await results.answer(job_format)).headers["content-type"] == media_type

    asyncio.run(scenario())


def check_coco(coco: dict[str, Any]) -> None:
    assert [image["file_name"] for image in coco["images"]] == [f"frame_{at:06d}.png" for at in range(FRAMES)]
    frame_of = {image["id"]: at for at, image in enumerate(coco["images"])}
    assert len(coco["annotations"]) == FRAMES + 2
    for item in coco["annotations"]:
        attributes, at = item["attributes"], frame_of[item["image_id"]]
        assert attributes["object_id"] == attributes["track_id"]
        result = coco_mask.decode(item["segmentation"]).astype(bool)
        assert np.array_equal(result, draw_mask(attributes["object_id"], at))


def check_overlay(frames: list[np.ndarray]) -> None:
    assert len(frames) == FRAMES
    for at, frame in enumerate(frames):
        plain = sample_files.draw_frame(at)
        assert abs(int(frame[44, 4].mean()) - int(plain[44, 4].mean())) <= LOSSY
        tinted = frame[20, 20 + at].astype(int)
        assert tinted[0] - tinted[2] > TINT


def test_a_running_video_shows_what_is_done(tmp_path: Path) -> None:
    clip = sample_files.write_video(tmp_path / "clip.mp4", FRAMES)
    chunks: list[list[bytes] | None] = [[make_line(at, {1: draw_mask(1, at)}) for at in range(3, 9)], None]

    async def scenario() -> None:
        async with job(tmp_path, JobKind.VIDEO, clip, chunks) as results:
            frames = decode_frames(await results("mp4"))
            assert len(frames) == 9
            red = [int(item[20, 20 + at, 0]) - int(item[20, 20 + at, 2]) for at, item in enumerate(frames)]
            assert [difference > TINT for difference in red] == [False] * 3 + [True] * 6
            stack = tifffile.imread(io.BytesIO(await results("tiff_stack")))
            assert [int(page.max()) for page in stack] == [0] * 3 + [1] * 6 + [0] * 11
        async with job(tmp_path / "other", JobKind.VIDEO, clip, [None]) as results:
            answer = await results.answer("mp4")
            assert (answer.status_code, answer.json()["field"]) == (422, "format")
            assert not zipfile.ZipFile(io.BytesIO(await results("png"))).namelist()

    asyncio.run(scenario())


def create_oblique_volume() -> sitk.Image:
    image = sample_files.make_volume(6)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
    return image


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_label_volume_has_the_geometry_of_its_source(tmp_path: Path, axis: int) -> None:
    source = create_oblique_volume()
    sitk.WriteImage(source, str(tmp_path / "scan.nii.gz"))
    expected = np.zeros((6, 20, 30), np.uint16)
    expected[2:4, 5:9, 10:20] = 3
    slices = list(enumerate(np.moveaxis(expected, axis, 0)))
    chunks = [[make_line(at, {3: item > 0}, index_key="slice") for at, item in slices if item.any()]]

    async def scenario() -> None:
        view = {"axis": axis, "window": [0, 800]}
        async with job(tmp_path, JobKind.VOLUME, tmp_path / "scan.nii.gz", chunks, **view) as results:
            for job_format, suffix in (("nifti", ".nii.gz"), ("nrrd", ".nrrd"), ("mha", ".mha")):
                path = tmp_path / f"labels{suffix}"
                path.write_bytes(await results(job_format))
                result = sitk.ReadImage(str(path))
                assert np.array_equal(sitk.GetArrayFromImage(result), expected)
                for index in [(0, 0, 0), (29, 19, 5), (7, 11, 2)]:
                    assert result.TransformIndexToPhysicalPoint(index) == pytest.approx(
                        source.TransformIndexToPhysicalPoint(index), abs=1e-4
                    )
            stack = tifffile.imread(io.BytesIO(await results("tiff_stack")))
            assert np.array_equal(stack, expected)
            coco = json.loads(await results("coco"))
            assert [item["file_name"] for item in coco["images"]] == [
                f"slice_{at:06d}.png" for at, item in slices if item.any()
            ]
            sheet = Image.open(io.BytesIO(await results("sheet")))
            across, down = [item for at, item in enumerate((2.0, 0.75, 0.5)) if at != axis][::-1]
            width, height = [item for at, item in enumerate((6, 20, 30)) if at != axis][::-1]
            columns = int(np.ceil(np.sqrt(len(coco["images"]))))
            rows = -(-len(coco["images"]) // columns)
            cell = (sheet.width + 4) / columns - 4, (sheet.height + 4) / rows - 4
            assert cell[0] / cell[1] == pytest.approx(across * width / (down * height), rel=0.05)

    asyncio.run(scenario())


def test_a_volume_from_dicom_is_had_as_dicom_seg(tmp_path: Path) -> None:
    scan = sample_files.write_zip(tmp_path / "scan.zip", make_series(6))
    masks = np.zeros((6, 12, 16), bool)
    masks[2:4, 5:9, 3:11] = True
    chunks = [[make_line(at, {3: item}, index_key="slice") for at, item in enumerate(masks) if item.any()]]

    async def scenario() -> None:
        objects = [{"object_id": 3, "name": "kidney", "prompts": []}, {"object_id": 4, "prompts": []}]
        async with job(tmp_path, JobKind.VOLUME, scan, chunks, objects) as results:
            coco = json.loads(await results("coco"))
            assert [item["attributes"]["name"] for item in coco["annotations"]] == ["kidney", "kidney"]
            answer = await results.answer("dicom_seg")
            assert answer.headers["content-type"] == "application/dicom"
            seg = hd.seg.segread(io.BytesIO(answer.content))
            assert (seg.NumberOfFrames, seg.number_of_segments) == (2, 1)
            assert [item.SegmentLabel for item in seg.SegmentSequence] == ["kidney"]
            assert np.array_equal(seg.pixel_array, masks[2:4])
        sitk.WriteImage(sample_files.make_volume(6), str(tmp_path / "scan.nii"))
        async with job(tmp_path / "other", JobKind.VOLUME, tmp_path / "scan.nii", [[]]) as results:
            answer = await results.answer("dicom_seg")
            assert (answer.status_code, answer.json()["field"]) == (422, "format")

    asyncio.run(scenario())


def test_tracks_name_their_parents(tmp_path: Path) -> None:
    clip = sample_files.write_video(tmp_path / "clip.mp4", FRAMES)
    parsed = orjson.loads(make_line(4, {2: draw_mask(1, 4)}))
    parsed["objects"][0]["parent"] = 1

    async def scenario() -> None:
        async with job(tmp_path, JobKind.TRACKING, clip, [[orjson.dumps(parsed)]]) as results:
            [result] = json.loads(await results("coco"))["annotations"]
            assert result["attributes"] == {"object_id": 2, "track_id": 2, "parent": 1}
            assert len(decode_frames(await results("mp4"))) == FRAMES

    asyncio.run(scenario())


def test_a_format_that_the_kind_of_job_does_not_have_is_refused(tmp_path: Path) -> None:
    clip = sample_files.write_video(tmp_path / "clip.mp4", FRAMES)

    async def scenario() -> None:
        async with job(tmp_path, JobKind.VIDEO, clip, forward_and_backward()) as results:
            answer = await results.answer("nifti")
            assert (answer.status_code, answer.json()["field"]) == (422, "format")
            assert "mp4" in answer.json()["remedy"]
            assert "nrrd" not in answer.json()["remedy"]

    asyncio.run(scenario())


def test_formats_made_of_masks_do_not_need_the_file(tmp_path: Path) -> None:
    clip = sample_files.write_video(tmp_path / "clip.mp4", FRAMES)

    async def scenario() -> None:
        async with job(tmp_path, JobKind.VIDEO, clip, forward_and_backward()) as results:
            await results.delete_file()
            for job_format in ("mp4", "sheet", "tiff_stack"):
                answer = await results.answer(job_format)
                assert (answer.status_code, answer.json()["field"]) == (404, "format")
                assert "deleted" in answer.json()["detail"]
            for job_format in ("png", "coco", "ndjson"):
                assert await results(job_format)

    asyncio.run(scenario())


def test_a_format_that_the_service_lacks_an_extra_for_is_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([sample_files.draw_frame(0)] * 2), photometric="rgb")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)

    async def scenario() -> None:
        chunk = [make_line(at, {1: draw_mask(1, at)}, index_key="slice") for at in range(2)]
        async with job(tmp_path, JobKind.VOLUME, path, [chunk]) as results:
            answer = await results.answer("nrrd")
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (501, "urn:segserve:problem:missing_dependency")
            assert problem["detail"] == "Making a label volume needs SimpleITK, which the service lacks."
            assert problem["remedy"].startswith("Its operator installs the extra volumes. These formats need")
            assert await results("png")

    asyncio.run(scenario())


def test_a_stack_of_pictures_as_a_volume_has_voxels_of_one_millimetre(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([sample_files.draw_frame(at) for at in range(6)]), photometric="rgb")

    async def scenario() -> None:
        chunk = [make_line(at, {1: draw_mask(1, at)}, index_key="slice") for at in range(6)]
        async with job(tmp_path, JobKind.VOLUME, path, [chunk]) as results:
            (tmp_path / "labels.nrrd").write_bytes(await results("nrrd"))
            result = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
            assert result.GetSpacing() == (1, 1, 1)
            assert np.array_equal(sitk.GetArrayFromImage(result), [draw_mask(1, at) for at in range(6)])

    asyncio.run(scenario())
