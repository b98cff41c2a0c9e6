"""nninteractive-client, the code by which napari-nninteractive and the extension of 3D Slicer speak to a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.clients.environments import install, run
from tests.serving import Server

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

SCRIPT = Path(__file__).parent / "nninteractive" / "use_client.py"
SHAPE = (16, 80, 90)


@pytest.fixture(scope="module")
def leasing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with one lease."""
    running = Server(tmp_path_factory.mktemp("leases"), max_sessions="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_a_point_in_a_volume(leasing: Server, tmp_path: Path) -> None:
    python = install("nninteractive", "nninteractive-client==2.6.0")
    z, y, x = np.indices(SHAPE)
    truth = 4 * (z - 8) ** 2 + (y - 38) ** 2 + (x - 41) ** 2 <= 14**2
    beside = 4 * (z - 7) ** 2 + (y - 60) ** 2 + (x - 70) ** 2 <= 11**2
    noise = np.random.default_rng(0).normal(0, 6, SHAPE)
    image = (900 * truth + 700 * beside + 300 + 10 * noise).astype(np.int16)
    file = tmp_path / "arrays.npz"
    np.savez(file, image=image, truth=truth)
    answer = json.loads(run(python, SCRIPT, leasing.url, str(file)).splitlines()[-1])
    assert answer["by_point"] > 0.85
    assert answer["by_drawing"] > 0.8
    assert answer["by_seed"] > 0.85
    assert answer["changed"]
    assert answer["undone"]
    inside = np.argwhere(truth)
    for (begin, end), low, high in zip(answer["box"], inside.min(axis=0), inside.max(axis=0), strict=True):
        assert abs(begin - low) <= 3
        assert abs(end - 1 - high) <= 3
    assert "sessions are open" in answer["refused"]
    assert "may have ended" in answer["ended"]
    assert leasing.metric('segserve_frontend_sessions{frontend="nninteractive"}') == 0
