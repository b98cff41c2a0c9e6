"""Uploads of a DICOM series, a NIfTI and a video: what it costs to read them in a sandboxed process."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import SimpleITK as sitk
from tests.files.dicom_files import encode_dicom
from tests.files.sample_files import write_zip
from tests.serving import Server

from bench.measuring import PAUSE_S, Measurement, measure_interleaved_ms
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.probe_file import probe_file
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileLimits

REPEATS = 20
LIMITS = FileLimits(max_mb=4096, max_frame_pixels=256_000_000, max_voxels=1_000_000_000)
MAX_SANDBOX_MS = 30.0


def write_files(folder: Path) -> dict[str, Path]:
    """Write a CT of 30 slices of 256 x 256, an MR volume of 160 x 160 x 100, and a video of 100 frames."""
    rng = np.random.default_rng(0)
    slices = {
        f"{z}.dcm": encode_dicom(side=256, z=z, pixels=rng.integers(0, 2000, (256, 256), np.uint16).tobytes())
        for z in range(30)
    }
    values = rng.normal(300, 80, (100, 160, 160)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "volume.nii.gz"))
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for index in range(100):
            frame = np.full((480, 640, 3), 40, np.uint8)
            frame[100:200, 3 * index : 3 * index + 100] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return {
        "DICOM, zip of 30 slices": write_zip(folder / "series.zip", slices),
        "NIfTI, gzip": folder / "volume.nii.gz",
        "mp4, 100 frames": folder / "clip.mp4",
    }


def measure_uploads_ms(server: Server, data: bytes) -> float:
    """Return the median time of an upload. The file is deleted after each, or it would be known already."""
    times = []
    for _ in range(REPEATS):
        time.sleep(PAUSE_S)
        start = time.perf_counter()
        answer = server.client.post("/v1/files", content=data)
        times.append(time.perf_counter() - start)
        server.client.delete(f"/v1/files/{answer.json()['file_id']}").raise_for_status()
    return float(np.median(times)) * 1000


def measure() -> list[Measurement]:
    rows = []
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as executor:
        files = write_files(Path(name))
        sandbox = Sandbox(READER_MODULE)
        readers = FileReaders(sandbox, LIMITS, timeout_s=60, memory_mb=0, executor=executor)
        server = Server(Path(name) / "data", log_level="error")
        server.wait_ready()
        try:
            for label, path in files.items():
                calls: dict[str, Callable[[], object]] = {
                    "own": lambda path=path: probe_file(path, "", LIMITS),
                    "sandbox": lambda path=path: readers.probe(path, ""),
                }
                times = measure_interleaved_ms(calls, REPEATS)
                cost = times["sandbox"] - times["own"]
                upload = measure_uploads_ms(server, path.read_bytes())
                size = f"{path.stat().st_size / 1e6:.1f} MB"
                rows += [
                    Measurement(f"{label}, {size}: read in the process itself", f"{times['own']:.1f} ms"),
                    Measurement(
                        f"{label}: what the sandboxed process adds",
                        f"{cost:.1f} ms",
                        f"<= {MAX_SANDBOX_MS:.0f} ms",
                        cost <= MAX_SANDBOX_MS,
                    ),
                    Measurement(f"{label}: upload over HTTP", f"{upload:.1f} ms"),
                ]
        finally:
            server.stop()
            sandbox.close()
    return rows
