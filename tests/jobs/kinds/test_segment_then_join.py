"""Slices and frames are segmented one by one and joined. Whatever dies meanwhile, the results are the same."""

import asyncio
import io
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput, Busy, MissingDependency, TooLarge
from segserve.files.file_view import FileView
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.jobs.kinds.cell_tracking import TrackingRunner
from segserve.jobs.kinds.job_requests import AutomaticJobRequest, TrackingRequest, VolumeMergeRequest
from segserve.jobs.kinds.segment_then_join import SegmentThenJoinJob
from segserve.jobs.kinds.slice_labels import SLICES_PER_CHUNK, LabelledSlice, pack_slices, unpack_detections
from segserve.jobs.kinds.volume_merging import VolumeMergeRunner
from segserve.masks import rle
from segserve.models.manifest import AisEntry
from segserve.tracking.linking_params import LinkingParams
from segserve.types import Priority, Size, UInt8
from tests.automatic.drawn_slices import disc
from tests.tracking.drawn import CELLS, draw_tracks, renumber

UInt32 = NDArray[np.uint32]
PARAMS = AisEntry(min_size=60)
MERGE, TRACK = (
    VolumeMergeRequest(model="starter", digest="d", view=FileView("f", axis=1), params=PARAMS),
    TrackingRequest(
        model="starter", digest="d", view=FileView("f"), params=PARAMS, joining=LinkingParams(raw=False)
    ),
)


def make_job(kind: JobKind = JobKind.BATCH) -> Job:
    return Job("t", "j", kind, Priority.BATCH, "starter", JobState.RUNNING, 0.0)


class DrawnSlices:
    """`DrawnSlices` is a file whose slices show the label maps that segmenting them must find."""

    def __init__(self, maps: list[UInt32] | UInt32) -> None:
        self._maps, self.count, self.size = maps, len(maps), Size(*maps[0].shape)
        self.closed = 0

    def slice_id(self, index: int) -> str:
        return f"slice {index}"

    async def read(self, index: int) -> UInt8:
        return np.repeat(self._maps[index][:, :, None], 3, axis=2).astype(np.uint8)

    async def close(self) -> None:
        self.closed += 1


class JobHarness:
    """`JobHarness` gives a job what it needs, and records how it is used."""

    def __init__(self, maps: list[UInt32] | UInt32) -> None:
        self.file = DrawnSlices(maps)
        self.states: list[bytes | None] = []
        self.requests: list[AutomaticJobRequest] = []
        self.segmented: list[str] = []
        self.errors: list[Exception] = []

    async def open_slices(self, job: Job, request: AutomaticJobRequest) -> DrawnSlices:
        self.requests.append(request)
        return self.file

    async def segment(
        self, job: Job, name: str, pixels: UInt8, request: AutomaticJobRequest
    ) -> LabelledSlice:
        assert request.params == PARAMS
        if self.errors:
            raise self.errors.pop()
        await asyncio.sleep(0)
        self.segmented.append(name)
        return LabelledSlice(pixels[:, :, 0].astype(np.uint32))

    async def read_state(self, chunk: int) -> bytes | None:
        return self.states[chunk]

    async def open(self, request: AutomaticJobRequest, max_voxels: int = 10**9) -> SegmentThenJoinJob:
        content = request.model_dump_json().encode()
        if isinstance(request, TrackingRequest):
            return await TrackingRunner(self.open_slices, self.segment, 2).open(make_job(), content, self)
        return await VolumeMergeRunner(self.open_slices, self.segment, 2, max_voxels).open(
            make_job(), content, self
        )

    async def run(self, request: AutomaticJobRequest, restart: bool = False) -> list[Chunk]:
        """All chunks, as a worker makes them; restart: another one for each."""
        chunks: list[Chunk] = []
        opened = await self.open(request)
        while (chunk := await opened.run_chunk(len(chunks), StopSignal())) is not None:
            chunks.append(chunk)
            self.states.append(chunk.state)
            if restart:
                await opened.close()
                opened = await self.open(request)
        await opened.close()
        return chunks


def read_lines(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for chunk in chunks for line in chunk.lines]


def draw_line(line: dict[str, Any]) -> UInt32:
    size = Size(line["height"], line["width"])
    labels = np.zeros((size.height, size.width), np.uint32)
    for each in line["objects"]:
        labels[rle.decode(each["mask"]["counts"], size)] = each["object_id"]
    return labels


def draw_volume() -> UInt32:
    """Draw two cells through 20 slices, one of which is missing on two slices, and a third cell on one slice."""
    labels = np.zeros((20, 60, 80), np.uint32)
    for index, each in enumerate(labels):
        each[disc(20 + index / 2, 20, 9)] = 1 + index % 3
        if index not in (9, 10):
            each[disc(60, 40, 9)] = 7
    labels[15, disc(20, 50, 5)] = 9
    return labels


@pytest.mark.parametrize("request_", [MERGE, TRACK], ids=["volume", "tracking"])
def test_a_job_that_restarts_at_every_chunk_makes_the_same_bytes(request_: AutomaticJobRequest) -> None:
    maps = draw_volume()
    undisturbed = asyncio.run(JobHarness(maps).run(request_))
    assert asyncio.run(JobHarness(maps).run(request_, restart=True)) == undisturbed


@pytest.mark.parametrize("request_", [MERGE, TRACK], ids=["volume", "tracking"])
def test_half_of_the_progress_is_segmenting_and_half_is_joining(request_: AutomaticJobRequest) -> None:
    harness = JobHarness(draw_volume())
    chunks = asyncio.run(harness.run(request_))
    assert [chunk.units for chunk in chunks] == [
        SLICES_PER_CHUNK,
        SLICES_PER_CHUNK,
        4,
        SLICES_PER_CHUNK,
        SLICES_PER_CHUNK,
        4,
    ]
    assert [len(chunk.lines) for chunk in chunks] == [0, 0, 0, SLICES_PER_CHUNK, SLICES_PER_CHUNK, 4]
    assert [chunk.state is None for chunk in chunks] == [False] * 3 + [True] * 3
    assert asyncio.run(harness.open(request_)).total == sum(chunk.unit_count for chunk in chunks) == 40
    assert sorted(harness.segmented) == sorted(harness.file.slice_id(index) for index in range(20))
    assert harness.requests[0] == request_
    assert harness.file.closed == 1


def test_a_volume_has_a_line_for_each_slice_and_an_id_for_each_object() -> None:
    lines = read_lines(asyncio.run(JobHarness(draw_volume()).run(MERGE)))
    assert [line["slice"] for line in lines] == list(range(20))
    expected = np.zeros((20, 60, 80), np.uint32)
    for index, each in enumerate(expected):
        each[disc(20 + index / 2, 20, 9)] = 1
        each[disc(60, 40, 9)] = 0 if index in (9, 10) else 2 if index < 9 else 3
    expected[15, disc(20, 50, 5)] = 4
    assert np.array_equal([draw_line(line) for line in lines], expected)
    (lonely,) = (each for each in lines[15]["objects"] if each["object_id"] == 4)
    assert lonely | {"mask": None} == {
        "object_id": 4,
        "mask": None,
        "box": [16, 46, 25, 55],
        "area": int(disc(20, 50, 5).sum()),
        "score": None,
    }


def test_a_volume_is_merged_with_the_requested_params() -> None:
    request = MERGE.model_copy(update={"joining": VolumeParams(gap_closing=1, min_z_extent=2)})
    lines = read_lines(asyncio.run(JobHarness(draw_volume()).run(request)))
    assert {each["object_id"] for line in lines for each in line["objects"]} == {1, 2}
    assert [each["object_id"] for each in lines[9]["objects"]] == [1, 2]


def test_tracks_have_a_line_for_each_frame_with_their_parents() -> None:
    lines = read_lines(asyncio.run(JobHarness(renumber(draw_tracks())).run(TRACK)))
    assert [line["frame"] for line in lines] == list(range(len(draw_tracks())))
    assert np.array_equal([draw_line(line) for line in lines], draw_tracks())
    for line in lines:
        for each in line["objects"]:
            assert each["parent"] == CELLS[each["object_id"]][2]


def test_frames_are_linked_with_the_requested_params() -> None:
    request = TRACK.model_copy(update={"joining": LinkingParams(splitting_cutoff=0)})
    lines = read_lines(asyncio.run(JobHarness(renumber(draw_tracks())).run(request)))
    assert {each["parent"] for line in lines for each in line["objects"]} == {None}


@pytest.mark.parametrize("request_", [MERGE, TRACK], ids=["volume", "tracking"])
def test_slices_without_objects_have_lines_too(request_: AutomaticJobRequest) -> None:
    lines = read_lines(asyncio.run(JobHarness(np.zeros((9, 20, 30), np.uint32)).run(request_)))
    assert [line["objects"] for line in lines] == [[]] * 9


def test_specks_and_pale_objects_of_a_volume_go() -> None:
    volume = np.zeros((12, 60, 120), np.uint32)
    for labels in volume:
        labels[disc(20, 20, 9, 60, 120)], labels[disc(60, 20, 9, 60, 120)] = 1, 2
    volume[3:9, disc(100, 20, 9, 60, 120)] = 3  # pale
    volume[5:7, 50:53, 5:8] = 4  # a speck

    class Pale(JobHarness):
        async def segment(
            self, job: Job, name: str, pixels: UInt8, request: AutomaticJobRequest
        ) -> LabelledSlice:
            labels = pixels[:, :, 0].astype(np.uint32)
            contrasts = [[10 if label == 3 else 90] * 3 for label in np.unique(labels[labels > 0])]
            return LabelledSlice(labels, contrasts=np.array(contrasts, np.float32).reshape(-1, 3))

    def list_objects(joining: VolumeParams) -> set[int]:
        request = MERGE.model_copy(update={"joining": joining})
        lines = read_lines(asyncio.run(Pale(volume).run(request, restart=True)))
        return {each["object_id"] for line in lines for each in line["objects"]}

    assert list_objects(VolumeParams()) == {1, 2, 3, 4}
    assert list_objects(VolumeParams(min_size_share=0.05)) == {1, 2, 3}
    assert list_objects(VolumeParams(min_contrast=0.3)) == {1, 2, 3}
    assert list_objects(VolumeParams(min_size_share=0.05, min_contrast=0.3)) == {1, 2}


def test_ids_of_more_than_16_bits_are_kept() -> None:
    maps = np.zeros((2, 20, 30), np.uint32)
    maps[:, 2:10, 2:10] = 70_000

    class Wide(JobHarness):
        async def segment(
            self, job: Job, name: str, pixels: UInt8, request: AutomaticJobRequest
        ) -> LabelledSlice:
            return LabelledSlice(maps[0])

    lines = read_lines(asyncio.run(Wide(maps).run(TRACK)))
    assert [each["object_id"] for line in lines for each in line["objects"]] == [1, 1]


def test_a_state_of_an_earlier_version_has_neither_contacts_nor_evidence() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:8, 2:8], labels[2:8, 8:14] = 1, 2
    descriptors, contrasts = np.eye(2, 4, dtype=np.float32), np.ones((2, 3), np.float32)
    state = pack_slices([LabelledSlice(labels, descriptors, contrasts)])
    with np.load(io.BytesIO(state)) as arrays:
        now = unpack_detections(arrays, 0)
        earlier = unpack_detections(
            {f"{name}0": arrays[f"{name}0"] for name in ("ids", "centres", "areas")}, 0
        )
    assert now.contacts.pairs.tolist() == [[0, 1]]
    assert now.descriptors is not None
    assert now.contrasts is not None
    assert now.descriptors.tolist() == descriptors.tolist()
    assert now.contrasts.tolist() == contrasts.tolist()
    assert earlier.areas.tolist() == [36, 36]
    assert not len(earlier.contacts.pairs)
    assert earlier.descriptors is None
    assert earlier.contrasts is None


def test_memory_does_not_grow_with_frames() -> None:
    frame = disc(200, 200, 150, 400, 400).astype(np.uint32)

    def peak(count: int) -> int:
        harness = JobHarness([frame] * count)
        tracemalloc.start()
        asyncio.run(harness.run(TRACK))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(SLICES_PER_CHUNK)  # the first run imports modules
    growth = peak(8 * SLICES_PER_CHUNK) - peak(2 * SLICES_PER_CHUNK)
    # Threads overlap by chance, so peaks of equal runs differ by up to the size of six frames. Maps that were kept
    # would add 48 frames, or half of that as 16 bits.
    assert growth < 6 * SLICES_PER_CHUNK * frame.nbytes / 4


def test_a_full_queue_delays_the_job() -> None:
    harness = JobHarness(draw_volume())
    harness.errors = [Busy("full", retry_after_s=0) for _ in range(3)]
    assert len(read_lines(asyncio.run(harness.run(MERGE)))) == 20


def test_a_slice_that_cannot_be_segmented_fails_the_job() -> None:
    harness = JobHarness(draw_volume())
    harness.errors = [BadInput("Damaged.")]
    with pytest.raises(BadInput, match="Damaged"):
        asyncio.run(harness.run(MERGE))


def test_a_stopped_job_stops_within_a_slice() -> None:
    harness, stop = JobHarness(draw_volume()), StopSignal()

    async def story() -> None:
        opened = await harness.open(MERGE)
        segment = harness.segment

        async def segment_last(*arguments: Any) -> LabelledSlice:
            stop.set()
            return await segment(*arguments)

        opened._segment = segment_last
        with pytest.raises(JobStopped):
            await opened.run_chunk(0, stop)

    asyncio.run(story())
    assert len(harness.segmented) <= 2  # those that were segmented at the same time


def test_a_volume_too_large_to_join_is_refused_before_it_is_segmented() -> None:
    harness = JobHarness(draw_volume())
    with pytest.raises(TooLarge, match="voxels"):
        asyncio.run(harness.open(MERGE, max_voxels=20 * 60 * 80 - 1))
    assert harness.file.closed == 1
    asyncio.run(harness.open(MERGE, max_voxels=20 * 60 * 80))


def test_raw_tracking_without_laptrack_fails_before_anything_is_segmented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "laptrack", None)
    harness = JobHarness(draw_volume())
    with pytest.raises(MissingDependency, match="laptrack"):
        asyncio.run(harness.open(TRACK.model_copy(update={"joining": LinkingParams(raw=True)})))
    assert not harness.requests
    asyncio.run(harness.open(TRACK))


@pytest.mark.parametrize(
    "change", [lambda fields: fields | {"beyond": 1}, lambda fields: fields | {"segmenting": {}}]
)
def test_a_request_with_unknown_fields_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        VolumeMergeRequest.model_validate(change(MERGE.model_dump()))
