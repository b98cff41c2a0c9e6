"""The service that is fuzzed: a real process, small enough to be warm soon, with something of each sort in it."""

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.images.sample_images import write_tiff
from tests.serving import ServerStartedAnew

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# Small caches fill up soon, so that what grows afterwards is a leak. Short patience with clients that stop midway.
SETTINGS = {
    "grpc_port": "0",
    "prepared_mb": "64",
    "maps_mb": "16",
    "candidates_mb": "16",
    "cache_mb": "64",
    "max_image_mb": "8",
    "max_file_mb": "8",
    "max_image_megapixels": "8",
    "max_tiled_megapixels": "16",
    "max_volume_megavoxels": "8",
    "max_request_mb": "8",
    "header_timeout_s": "0.5",
    "body_timeout_s": "1",
    "reader_timeout_s": "10",
    "job_ttl_days": "0.01",
    "log_level": "warning",
}
# Stand for the ids of the job, which is another one in each service, and of the file. They are as long as these: the
# length of a body is in its headers.
JOB_PLACEHOLDER, FILE_PLACEHOLDER = b"JOB-" * 4, b"FILE" * 16
PICTURE = (EXAMPLES / "nuclei.png").read_bytes()
IMAGE_ID = hashlib.sha256(PICTURE).hexdigest()


def make_stack() -> bytes:
    """A stack of four small frames, as TIFF."""
    frames = np.full((4, 48, 64), 20, np.uint8)
    for index, frame in enumerate(frames):
        frame[10:30, 8 * index : 8 * index + 16] = 220
    return write_tiff(frames, photometric="minisblack")


class FuzzedService(ServerStartedAnew):
    """`FuzzedService` is a service with an image, a file and a job.

    grpc_target: address of its gRPC.
    """

    def start(self) -> None:
        super().start()
        match = re.search(r"gRPC at (\S+)", self.log.read_text())
        assert match, self.log.read_text()
        self.grpc_target = match[1]

    def fill(self) -> None:
        """Store what requests name, unless it is there, and wait until its job has ended."""
        self.upload(PICTURE)
        answer = self.client.post("/v1/files", content=make_stack())
        assert answer.status_code == 201, answer.text
        self.file_id = str(answer.json()["file_id"])
        box = [{"object_id": 1, "prompts": [{"frame": 0, "box": [8, 10, 24, 30]}]}]
        body = {
            "kind": "video",
            "input": {"file_id": self.file_id},
            "params": {"engine": "projection", "objects": box},
        }
        submitted = self.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "fuzz"})
        if submitted.status_code != 202:  # the same key with another body, by a mutated request
            submitted = self.client.post("/v1/jobs", json=body)
        assert submitted.status_code == 202, submitted.text
        self.job: dict[str, Any] = submitted.json()
        deadline = time.monotonic() + 60
        while self.job["state"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.1)
            self.job = self.client.get(f"/v1/jobs/{self.job['job_id']}").json()

    def fill_in(self, data: bytes) -> bytes:
        """Replace placeholders in an input."""
        ids = {FILE_PLACEHOLDER: self.file_id.encode(), JOB_PLACEHOLDER: str(self.job["job_id"]).encode()}
        for placeholder, real_id in ids.items():
            assert len(placeholder) == len(real_id)
            data = data.replace(placeholder, real_id)
        return data


def start_service(folder: Path) -> FuzzedService:
    service = FuzzedService(folder, **SETTINGS)
    service.wait_ready()
    service.fill()
    return service
