"""Uploads of images that are small as files and large as pixels: each limit is stated, held and named."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.images.sample_images import black_png, save_image
from tests.serving import Server
from tests.wire.responses import assert_refused

EMPTY_SCAN = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0"


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that reads up to 100 megapixels at once, or 120 in bands, in 1 GB."""
    running = Server(
        tmp_path_factory.mktemp("small"),
        image_memory_mb="1024",
        max_image_megapixels="100",
        max_tiled_megapixels="120",
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def refuse(server: Server, data: bytes, reason: str) -> None:
    problem = assert_refused(server.client.post("/v1/images", content=data), 413, "too_large", "file")
    assert reason in f"{problem['detail']} {problem.get('remedy')}"


def test_an_image_that_needs_more_memory_than_one_may_take(small_server: Server) -> None:
    """8000 x 8000 pixels of 16-bit RGBA, interlaced, of 60 KB."""
    refuse(small_server, black_png(16, 6, True, 8000, 8000), "SEGSERVE_IMAGE_MEMORY_MB")


def test_the_limit_for_images_read_at_once_holds_for_all_that_are(small_server: Server) -> None:
    refuse(small_server, black_png(1, 0, True, 10_100, 10_000), "100000000 pixels")
    assert small_server.upload(black_png(1, 0, True, 1010, 1000))


def test_the_limit_for_tiled_images(small_server: Server) -> None:
    refuse(small_server, black_png(1, 0, False, 12_100, 10_000), "120000000 pixels")


def test_a_jpeg_of_many_scans(small_server: Server) -> None:
    data = save_image(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    refuse(small_server, data[:-2] + EMPTY_SCAN * 600 + data[-2:], "scans")


def test_an_upload_does_not_wait_for_large_ones(small_server: Server, nuclei: Path) -> None:
    """Three images of 90 megapixels are stored one after the other, in a thread of their own."""
    ended: list[float] = []

    def upload_large(number: int) -> None:
        data = black_png(8, 0, False, 9000, 10_000 - number)
        assert small_server.client.post("/v1/images", content=data, timeout=300).status_code == 201
        ended.append(time.monotonic())

    threads = [threading.Thread(target=upload_large, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    image_id = small_server.upload(nuclei.read_bytes() + b"another id")
    assert small_server.click(image_id, 413, 190).status_code == 200
    answered = time.monotonic()
    for thread in threads:
        thread.join()
    assert len(ended) == 3
    assert answered < max(ended)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_comes_back(small_server: Server) -> None:
    """After images that took hundreds of MB the process is as large as before, but for libraries that it loaded."""

    def resident_mb() -> float:
        status = Path(f"/proc/{small_server.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1000

    small_server.upload(black_png(16, 2, True, 4000, 4001))
    before = resident_mb()
    for number in range(3):
        small_server.upload(black_png(8, 2, True, 5000, 6000 + number))
    deadline = time.monotonic() + 60
    while resident_mb() > 1.1 * before:
        assert time.monotonic() < deadline, (before, resident_mb())
        time.sleep(0.1)
