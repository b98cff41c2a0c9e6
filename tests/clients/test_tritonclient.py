"""NVIDIA's tritonclient uses the service as it uses a Triton: HTTP and gRPC, binary tensors, compression, a stream.

It runs in an environment and a process of its own: its messages and ours have the same names.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clients.environments import install, run
from tests.serving import Server

pytestmark = pytest.mark.clients

SCRIPT = Path(__file__).parent / "open_inference" / "call.py"


@pytest.fixture
def grpc_server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data", grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_every_way_gives_the_mask_of_rest(grpc_server: Server, tmp_path: Path, nuclei: Path) -> None:
    python = install("tritonclient", "tritonclient[http,grpc]==2.73.0")
    np.save(tmp_path / "picture.npy", np.array(Image.open(nuclei).convert("RGB")))
    address = grpc_server.url.removeprefix("http://")
    printed = run(python, SCRIPT, address, grpc_server.grpc_address(), str(tmp_path / "picture.npy"))
    by_rest = grpc_server.click(grpc_server.upload(nuclei), 413, 190).json()["results"][0]["masks"][0]
    assert set(map(int, printed.split())) == {by_rest["area"]}
    assert "internal error" not in grpc_server.log.read_text()
