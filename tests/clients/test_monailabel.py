"""The client class of the `monailabel` package: sessions, inference in 2D and 3D, the datastore, refusals."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as itk
from PIL import Image

from tests.clients.environments import TIMEOUT_S, install, run
from tests.serving import Server
from tests.wire.frontends.monai.test_monai import MIDDLE, ORIGIN, iou, truth, write_itk

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

SCRIPT = Path(__file__).parent / "monai" / "use_client.py"
WHEEL = "monailabel==0.8.5"


@pytest.fixture(scope="module")
def monai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("monai"))
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


def install_client() -> Path:
    """The package without what it requires, which is MONAI and torch; its client needs `requests` alone."""
    python = install("monailabel-client", "requests", "legacy-cgi; python_version >= '3.13'")
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", WHEEL],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        pytest.skip(f"monailabel cannot be installed, it is not tested: {done.stderr[-400:]}")
    return python


def test_the_client_does_what_slicer_does(monai: Server, nuclei: Path, tmp_path: Path) -> None:
    python = install_client()
    volume = tmp_path / "scan.nrrd"
    volume.write_bytes(write_itk(".nrrd"))
    env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    env.pop("PYTHONPATH", None)
    printed = run(python, SCRIPT, monai.url, str(volume), str(nuclei), *map(str, MIDDLE), **env)
    answer = json.loads(printed.splitlines()[-1])
    assert {"starter_2d", "starter_3d", "starter_automatic", "starter-unet"} <= set(answer["models"])
    on_slice = itk.ReadImage(answer["by_session"])
    assert on_slice.GetOrigin() == pytest.approx(ORIGIN)
    expected = truth()
    through = itk.GetArrayFromImage(itk.ReadImage(answer["through"]))
    assert iou(through > 0, expected) > 0.8
    assert Path(answer["downloaded"]).read_bytes() == Path(answer["through"]).read_bytes()
    expected[np.arange(len(expected)) != MIDDLE[2]] = False
    assert iou(itk.GetArrayFromImage(on_slice) > 0, expected) > 0.8
    assert answer["details"]["label_names"] == {"object": 1}
    assert answer["labels"] == ["final"]
    assert answer["ended"] is True
    assert np.array(Image.open(answer["mask"])).any()
    assert "There is no image 'nothing'" in answer["refusal"]
    assert answer["training"] is False
    assert answer["next"] == {}
