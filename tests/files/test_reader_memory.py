"""Readers take their memory from one budget: many uploads at once, large headers and long jobs do not go round it."""

import asyncio
import gzip
import os
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import SimpleITK as sitk

from segserve.errors import BadInput, Busy, SegserveError, TooLarge, Unavailable
from segserve.files.file_readers import READER_MODULE, START_MEMORY_BYTES, FileReaders
from segserve.files.sandboxed_archive import SandboxedArchive
from segserve.memory_budget import MemoryBudget
from segserve.sandbox.sandbox import Sandbox
from segserve.types import MB, FileLimits, FrameIndex
from tests.files import sample_files

# Three quarters are for one file, or for two that have only begun.
TOTAL_BYTES = 3 * START_MEMORY_BYTES
LIMITS = FileLimits(max_mb=1000, max_frame_pixels=256_000_000, max_voxels=1_000_000_000)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(READER_MODULE)
    yield made
    made.close()


def run_with_budget(
    sandbox: Sandbox, scenario: Callable[[FileReaders, MemoryBudget], Awaitable[None]], max_wait_s: float = 60
) -> None:
    async def run() -> None:
        budget = MemoryBudget(TOTAL_BYTES, "THE_SETTING", max_wait_s=max_wait_s)
        budget.attach()
        with ThreadPoolExecutor(8) as executor:
            readers = FileReaders(
                sandbox, LIMITS, timeout_s=60, memory_mb=0, executor=executor, memory=budget
            )
            await scenario(readers, budget)
        await asyncio.sleep(0)
        assert budget.held_bytes == 0

    asyncio.run(run())


def write_nifti(path: Path, *size: int) -> Path:
    """Write a NIfTI of 16-bit zeros, packed: a few bytes for any size."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    x, y, z = size
    with gzip.open(path, "wb", 1) as file:
        file.write(bytes(header))
        for _ in range(z):
            file.write(bytes(2 * x * y))
    return path


def test_many_uploads_at_once_stay_within_the_budget(sandbox: Sandbox, tmp_path: Path) -> None:
    path = sample_files.write_video(tmp_path / "clip.mp4")
    most = 0
    lock = threading.Lock()

    async def scenario(readers: FileReaders, budget: MemoryBudget) -> None:
        def probe(number: int) -> None:
            nonlocal most
            group = readers.group()
            frames = group.open_frames(path, "mp4")
            with lock:
                most = max(most, budget.held_bytes)
            frames.read(number)
            frames.close()

        await asyncio.gather(*(readers.run(probe, number) for number in range(8)))
        assert START_MEMORY_BYTES <= most <= TOTAL_BYTES

    run_with_budget(sandbox, scenario)


def test_a_volume_that_no_job_could_read_is_not_stored(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its 200 Mvoxel are within the limit of voxels, and its file has a few hundred kB."""
    path = write_nifti(tmp_path / "v.nii.gz", 1000, 1000, 200)

    async def scenario(readers: FileReaders, budget: MemoryBudget) -> None:
        with pytest.raises(TooLarge, match="THE_SETTING"):
            await readers.run(readers.probe, path, "x")

    run_with_budget(sandbox, scenario)


def test_a_volume_is_counted_until_it_is_closed(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "v.nrrd"
    sitk.WriteImage(sitk.Image([1000, 1000, 60], sitk.sitkUInt16), str(path), True)

    async def scenario(readers: FileReaders, budget: MemoryBudget) -> None:
        def read() -> list[int]:
            with readers.open_volume(path, "nrrd") as volume:
                opened = budget.held_bytes
                voxels = volume.voxels()
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
                return [opened, budget.held_bytes, voxels.nbytes]

        loop = asyncio.get_running_loop()
        opened, kept, size = await readers.run(read)
        assert (opened, kept) == (START_MEMORY_BYTES, size), "the process has ended, its copy is gone"

    run_with_budget(sandbox, scenario)


def test_who_waits_for_memory_is_refused_in_the_end_or_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    path = sample_files.write_video(tmp_path / "clip.mp4")

    async def scenario(readers: FileReaders, budget: MemoryBudget) -> None:
        async with budget.hold(budget.max_bytes):
            with pytest.raises(Busy):
                await readers.run(readers.probe, path, "x")
            group = readers.group()
            waiting = asyncio.ensure_future(group.run(group.probe, path, "x"))
            await asyncio.sleep(0.2)
            group.kill()
            with pytest.raises(Unavailable, match="stopped"):
                await waiting
        assert (await readers.run(readers.probe, path, "x")).count == 20

    run_with_budget(sandbox, scenario, max_wait_s=1)


def test_a_zip_is_unpacked_in_the_sandbox_picture_by_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    entries = {"10.png": b"ten", "9.png": os.urandom(2 * MB), "e.png": b"name"}
    path = sample_files.write_zip(tmp_path / "p.zip", entries)

    async def scenario(readers: FileReaders, budget: MemoryBudget) -> None:
        archive = await readers.run(SandboxedArchive, readers, path, FrameIndex(), MB)
        assert archive.names == ["9.png", "10.png", "e.png"]
        with pytest.raises(TooLarge, match="SEGSERVE_MAX_IMAGE_MB"):
            await readers.run(archive.unpack, 0)
        with await readers.run(archive.unpack, 1) as content:
            assert content.read() == b"ten"
        assert archive._process is not None
        archive._process._process._end()  # kills it, and waits for that
        with pytest.raises(SegserveError):
            await readers.run(archive.unpack, 1)
        archive.close()
        with await readers.run(archive.unpack, 2) as content:
            assert content.read() == b"name", "another process goes on"
        archive.close()
        (tmp_path / "bad.zip").write_bytes(b"PK\3\4" + b"x" * 100)
        with pytest.raises(BadInput):
            await readers.run(SandboxedArchive, readers, tmp_path / "bad.zip", FrameIndex(), MB)

    run_with_budget(sandbox, scenario)
