"""Send one file by both routes, prove what was accepted, and compare it with an independent reading."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from segserve.app import Service
from segserve.errors import SegserveError
from segserve.files.file_view import FileView
from segserve.files.slice_reader import SliceReader
from segserve.types import FileKind, ReadOptions
from tests.corpus.independent_readers import Compare, ReaderPool, Reading, detect_kind
from tests.corpus.service_process import WatchedServer
from tests.corpus.verdicts import FileResult, RouteResult, Verdict, find_leak, settle_routes

TENANT = "corpus"
# Frames that the job of a file has prompts on. This process reads all the others too.
MAX_JOB_FRAMES = 24
JOB_TIMEOUT_S = 300
POLL_S = 0.05
# Of the mean difference, and of the correlation, that pixels may have.
MAX_CLOSE_DIFFERENCE = 2.0
MIN_CORRELATION = 0.5
# The part of a picture that its window must show, for the correlation to say anything.
MIN_SHOWN = 0.1
SPACING_TOLERANCE = 1e-3


class FileChecker:
    """`FileChecker` checks files, one after another.

    service: reads pixels in this process, by the code that the service under test reads them by.
    """

    def __init__(self, watched: WatchedServer, service: Service, readers: ReaderPool) -> None:
        self._watched, self._service, self._readers = watched, service, readers

    async def check(self, path: Path, name: str) -> FileResult:
        kind = await asyncio.to_thread(detect_kind, path)
        images = await self._check_route("images", path, kind)
        files = await self._check_route("files", path, kind)
        settle_routes(images, files)
        return FileResult(name, kind, path.stat().st_size, [images, files], self._watched.take_recent_peak())

    async def _check_route(self, route: str, path: Path, kind: str) -> RouteResult:
        result, answer = await asyncio.to_thread(self._upload, route, path)
        reading = await asyncio.to_thread(self._readers.read, path, route, kind)
        result.reader = reading.reader if reading else ""
        if result.status != 201:
            if result.verdict is not Verdict.SERVER_ERROR:
                result.verdict = Verdict.REFUSED if reading else Verdict.REFUSED_RIGHTLY
            return result
        begin = time.monotonic()
        if failure := await asyncio.to_thread(self._run_job, route, answer):
            result.verdict, result.detail = Verdict.JOB_FAILED, failure
            result.leak = result.leak or find_leak(failure)
        else:
            await self._prove(route, path, reading, result)
        result.job_seconds = time.monotonic() - begin
        return result

    def _upload(self, route: str, path: Path) -> tuple[RouteResult, dict[str, Any]]:
        begin = time.monotonic()
        try:
            with path.open("rb") as file:
                answer = self._watched.client.post(
                    f"/v1/{route}", content=file, headers={"content-type": "application/octet-stream"}
                )
        except httpx.HTTPError as error:
            if not self._watched.is_alive():
                self._watched.restart()
            return RouteResult(route, 0, Verdict.SERVER_ERROR, f"no answer: {type(error).__name__}"), {}
        seconds = time.monotonic() - begin
        body = answer.json()
        if answer.status_code == 201:
            taken = {key: value for key, value in body.items() if not key.endswith("_id")}
            return RouteResult(route, 201, Verdict.UNKNOWN, taken=taken, seconds=seconds), body
        message = f"{body.get('detail', '')} {body.get('remedy', '')}".strip()
        verdict = Verdict.SERVER_ERROR if answer.status_code >= 500 else Verdict.REFUSED
        leak = find_leak(answer.text)
        return RouteResult(
            route, answer.status_code, verdict, message=message, seconds=seconds, leak=leak
        ), body

    def _run_job(self, route: str, answer: dict[str, Any]) -> str:
        """Run a job on what was accepted. Returns why it failed, "" if it did not."""
        if route == "images":
            body: dict[str, Any] = {
                "kind": "batch",
                "input": {"image_ids": [answer["image_id"]]},
                "params": {"operation": "embed"},
            }
        elif answer["kind"] == FileKind.PICTURES:
            body = {
                "kind": "batch",
                "input": {"file_id": answer["file_id"]},
                "params": {"operation": "embed"},
            }
        else:
            count, width, height = answer["frames"], answer["width"], answer["height"]
            frames = np.unique(np.linspace(0, count - 1, min(count, MAX_JOB_FRAMES)).round().astype(int))
            prompts = [{"frame": int(at), "box": [0, 0, width, height]} for at in frames]
            body = {
                "kind": "volume" if answer["kind"] == FileKind.VOLUME else "video",
                "input": {"file_id": answer["file_id"]},
                "params": {"engine": "projection", "objects": [{"object_id": 1, "prompts": prompts}]},
            }
        try:
            return self._wait_for_job(body)
        except httpx.HTTPError as error:
            if not self._watched.is_alive():
                self._watched.restart()
            return f"no answer: {type(error).__name__}"

    def _wait_for_job(self, body: dict[str, Any]) -> str:
        client = self._watched.client
        answer = client.post("/v1/jobs", json=body)
        job = answer.json()
        if answer.status_code != 202:
            return f"{answer.status_code}: {job.get('detail', '')}"
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while job["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                return f"not done after {JOB_TIMEOUT_S} s"
            time.sleep(POLL_S)
            job = client.get(f"/v1/jobs/{job['job_id']}").json()
        if job["state"] != "succeeded":
            error = job["error"] or {}
            return f"{job['state']}: {error.get('detail', '')} {error.get('remedy', '')}"
        if body["kind"] == "batch":
            lines = client.get(f"/v1/jobs/{job['job_id']}/results").text
            if '"error"' in lines:
                return f"of a picture: {lines[:400]}"
        return ""

    async def _prove(self, route: str, path: Path, reading: Reading | None, result: RouteResult) -> None:
        """Read every frame in this process, and set the verdict."""
        try:
            if route == "images":
                count, planes = 1, await self._read_image(path)
            else:
                count, planes = await self._read_frames(path, reading)
        except SegserveError as error:
            result.verdict, result.detail = Verdict.UNREADABLE, f"{type(error).__name__}: {error}"
            return
        result.verdict, result.detail = compare(reading, result.taken, count, planes)

    async def _read_image(self, path: Path) -> dict[int, NDArray[Any]]:
        with path.open("rb") as file:
            record = await self._service.images.add(TENANT, file, ReadOptions())
        try:
            return {0: await self._service.images.read_pixels(TENANT, record.image_id)}
        finally:
            await self._service.images.delete(TENANT, record.image_id)

    async def _read_frames(self, path: Path, reading: Reading | None) -> tuple[int, dict[int, NDArray[Any]]]:
        """Read every frame. Returns their number, and those that the reading has, as [H, W, 3] or as a volume's
        values [H, W]."""
        files = self._service.files
        with path.open("rb") as file:
            record = await files.add(TENANT, file)
        try:
            if record.kind is FileKind.PICTURES:
                return record.count, {}
            slices = await SliceReader.open(files, TENANT, FileView(record.file_id))
            wanted = set(reading.planes) if reading else set()
            try:
                planes = {}
                for index in range(slices.count):
                    plane = await slices.read(index)
                    if index in wanted:
                        planes[index] = plane
            finally:
                await slices.close()
            if (
                record.kind is FileKind.VOLUME
                and reading
                and (reading.values or reading.compare is Compare.EXACT)
            ):
                planes = await self._read_values(record.file_id, wanted)
            return slices.count, planes
        finally:
            await files.delete(TENANT, record.file_id)

    async def _read_values(self, file_id: str, wanted: set[int]) -> dict[int, NDArray[Any]]:
        files = self._service.files
        async with files.local_copy(TENANT, file_id) as (record, path):

            def read() -> dict[int, NDArray[Any]]:
                with files.readers.open_volume(path, record.format) as volume:
                    values = volume.voxels()
                    return {index: np.array(values[index]) for index in wanted if index < len(values)}

            return await asyncio.to_thread(read)


def compare(
    reading: Reading | None, taken: dict[str, Any], count: int, planes: dict[int, NDArray[Any]]
) -> tuple[Verdict, str]:
    """Compare what the service took with an independent reading. Returns the verdict, and how they differ."""
    if reading is None:
        return Verdict.UNKNOWN, ""
    frames = taken.get("frames", count)
    if (frames, count) != (reading.frames, reading.frames):
        return Verdict.WRONG_FRAMES, f"{frames} announced, {count} read, {reading.frames} by {reading.reader}"
    size, expected = (taken["width"], taken["height"]), (reading.width, reading.height)
    if size != expected:
        return Verdict.WRONG_SIZE, f"{size}, {expected} by {reading.reader}"
    spacing = taken.get("spacing")
    if spacing and reading.spacing and not np.allclose(spacing, reading.spacing, rtol=SPACING_TOLERANCE):
        return Verdict.WRONG_SPACING, f"{spacing}, {reading.spacing} by {reading.reader}"
    if reading.compare is Compare.NOTHING or not planes:
        return Verdict.RIGHT_SIZE, ""
    for index, plane in planes.items():
        expected_plane, how = reading.planes[index], reading.compare
        if plane.ndim == 2 and reading.values:
            expected_plane, how = reading.values[index], Compare.EXACT
        if difference := describe_difference(plane, expected_plane, how):
            return Verdict.WRONG_PIXELS, f"frame {index}: {difference} from {reading.reader}"
    return Verdict.RIGHT, ""


def describe_difference(plane: NDArray[Any], expected: NDArray[Any], how: Compare) -> str:
    """Return how two planes differ, "" if they are as near as `how` asks."""
    if plane.shape != expected.shape:
        return f"{plane.shape}, not {expected.shape}"
    ours, theirs = plane.astype(np.float64), expected.astype(np.float64)
    if how is Compare.ALIKE:
        shown = (ours > 0) & (ours < 255)  # what the window shows of it
        if shown.mean() < MIN_SHOWN or min(ours[shown].std(), theirs[shown].std()) == 0:
            return ""
        correlation = float(np.corrcoef(ours[shown], theirs[shown])[0, 1])
        return "" if correlation > MIN_CORRELATION else f"correlation {correlation:.2f}"
    # The NIfTI library of ITK reads NaN as 0.
    same = (ours == theirs) | (np.isnan(theirs) & (np.isnan(ours) | (ours == 0)))
    difference = np.where(same, 0, np.abs(ours - theirs))
    scale = max(1.0, float(np.nanmax(np.abs(theirs), initial=0)))
    close = {
        Compare.EXACT: float(difference.max(initial=0)) <= 1e-5 * scale
        if plane.ndim == 2
        else not difference.any(),
        Compare.ROUNDED: difference.max(initial=0) <= 1,
        Compare.CLOSE: difference.mean() <= MAX_CLOSE_DIFFERENCE,
    }[how]
    return "" if close else f"{difference.mean():.3f} in the mean, {difference.max():.3f} at most"
