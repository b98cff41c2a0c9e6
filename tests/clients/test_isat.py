"""ISAT without a screen, with the published MobileSAM: what it decodes of an embedding is the service's own mask."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segserve.errors import Unavailable
from segserve.masks import rle
from segserve.models.catalogue import find_published_model
from segserve.models.download import Digest
from segserve.models.fetch_file import fetch_file
from segserve.types import Size
from tests.clients.environments import TIMEOUT_S, install, run
from tests.serving import Server

pytest.importorskip("torch")

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

SCRIPT = Path(__file__).parent / "isat" / "click.py"
X, Y = 413, 190  # on a nucleus of examples/nuclei.png
MIN_IOU = 0.999


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = find_published_model("mobile-sam").files[0]
    target = tmp_path_factory.mktemp("checkpoint") / file.name
    try:
        fetch_file(file, target, Digest.parse(str(file.digest)), lambda done, total: None)
    except Unavailable as error:
        pytest.skip(f"MobileSAM cannot be fetched: {error.message}")
    return target


@pytest.fixture(scope="module")
def isat_server(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("isat")
    command = [sys.executable, "-m", "segserve.cli", "models", "import", "mobile_sam", str(checkpoint)]
    command += ["--name", "mobile-sam", "--data-dir", str(data_dir)]
    subprocess.run(command, check=True, timeout=TIMEOUT_S)
    running = Server(data_dir, isat_port="0", preload="[]")
    yield running
    assert running.stop() == 0, running.log.read_text()


def install_isat() -> Path:
    """ISAT, with the torch of this environment: a second one would be some GB."""
    return install("isat-sam", "isat-sam==1.5.2", other_packages=sysconfig.get_path("purelib"))


def test_a_click_that_isat_decodes_is_the_mask_of_rest(
    isat_server: Server, checkpoint: Path, nuclei: Path, tmp_path: Path
) -> None:
    python = install_isat()
    port = isat_server.find_address(r"isat at http://127\.0\.0\.1:(\d+)")
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "nuclei.png").write_bytes(nuclei.read_bytes())
    mask_path = tmp_path / "mask.npy"
    env = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    arguments = ["127.0.0.1", port, str(checkpoint), str(folder), str(X), str(Y)]
    run(python, SCRIPT, *arguments, str(mask_path), str(tmp_path / "isat.png"), **env)
    got = np.load(mask_path)
    # ISAT takes the best of three candidates, and refines it by itself and the same click.
    image_id, point = isat_server.upload(nuclei), {"points": [[X, Y]]}
    asked = {"image_id": image_id, "model": "mobile-sam", "raw": True}

    def segment(prompt: dict[str, object], multimask: bool) -> dict[str, object]:
        body = {**asked, "prompts": [prompt], "multimask": multimask}
        answer = isat_server.client.post("/v1/segment", json=body)
        assert answer.status_code == 200, answer.text
        mask: dict[str, object] = answer.json()["results"][0]["masks"][0]
        return mask

    best = segment(point, True)
    refined = segment({**point, "mask_id": best["mask_id"]}, False)
    mask = refined["mask"]
    assert isinstance(mask, dict)
    expected = rle.decode(mask["counts"], Size(*got.shape))
    assert expected.sum() > 100
    assert (got & expected).sum() / (got | expected).sum() >= MIN_IOU
    assert (tmp_path / "isat.png").stat().st_size > 10_000
