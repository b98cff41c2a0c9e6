"""Objects followed by SAM 2's memory from the page: a small network of random weights, which finds nothing sensible."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients import test_web_clips as clips
from tests.files import sample_files
from tests.serving import Server

pytest.importorskip("torch")
pytest.importorskip("sam2")

from segserve.models.bundle import PROMPTABLE_NETWORK
from segserve.models.export.sam2 import export_sam2
from segserve.models.importers.sam2_network import IMPORTER
from segserve.models.weights import write_weights
from tests.sam2_memory import reference

pytestmark = pytest.mark.clients

FRAMES = 2
MODEL = "sam2-small"
JOB_TIMEOUT_S = 600


@pytest.fixture(scope="module")
def memory_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("memory")
    (bundle := folder / "models" / MODEL).mkdir(parents=True)
    network = reference.network(image_size=256)
    write_weights(bundle, {PROMPTABLE_NETWORK: IMPORTER.promptable(network)})
    export_sam2(network, bundle, name=MODEL, architecture=f"hiera_{reference.TINY}")
    server = Server(folder, encode_threads="1")
    server.wait_ready()
    yield server
    assert server.stop() == 0, server.log.read_text()


def test_a_painted_object_is_followed_by_the_memory(
    browser: Any, memory_server: Server, tmp_path: Path
) -> None:
    pictures = {
        f"{number}.png": sample_files.encode_png(frame)
        for number, frame in enumerate(reference.frames(FRAMES))
    }
    clip = sample_files.write_zip(tmp_path / "clip.zip", pictures)
    page = browser.new_page(viewport={"width": 1300, "height": 850})
    page.set_default_timeout(1000 * clips.TIMEOUT_S)
    failures: list[str] = []
    jobs: list[Any] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda r: jobs.append(r.post_data_json) if r.url.endswith("/v1/jobs") else None)
    page.goto(memory_server.url)
    page.wait_for_selector("#model option", state="attached")
    page.select_option("#model", label=MODEL)
    page.set_input_files("#file", clip)
    page.wait_for_selector("#frame-number")
    clips.wait_for(page, "segserve.isReady() && Boolean(segserve.viewer.transform)")
    page.keyboard.press("b")
    left, top = page.evaluate("segserve.viewer.toScreen([50, 30])")
    glass = page.locator("#glass").bounding_box()
    page.mouse.click(glass["x"] + left, glass["y"] + top)
    page.keyboard.press("Enter")
    clips.wait_for(page, "segserve.labelling.objects[0]?.state === 'done'")
    painted = page.evaluate("segserve.labelling.objects[0].mask.counts")
    page.keyboard.press("Shift+F")
    page.wait_for_selector("#progress")
    # Importing torch, and two frames of 1024 x 1024: minutes on a busy machine.
    ended = "() => ['succeeded', 'failed'].includes(segserve.timeline.propagation.job?.state)"
    page.wait_for_function(ended, timeout=1000 * JOB_TIMEOUT_S)
    propagation = page.evaluate(
        """(({ job, problem, results }) => ({
          state: job.state, model: job.model, problem, frames: [...results.keys()].sort(),
          missing: [...results.values()].flatMap(({ missing, ends }) => [...missing, ...ends]).length,
          found: [...results.values()].flatMap(({ objects }) => objects).length }))(segserve.timeline.propagation)"""
    )
    assert (propagation["state"], propagation["model"], propagation["problem"]) == ("succeeded", MODEL, None)
    assert "engine" not in jobs[0]["params"], "the service takes the memory, since the model has its weights"
    assert propagation["frames"] == list(range(FRAMES))
    assert propagation["found"] + propagation["missing"] >= 1
    assert page.evaluate("segserve.labelling.objects[0].mask.counts") == painted, "what a person made stays"
    # An object that is lost is told on the time line.
    states = page.evaluate(
        "segserve.timeline.states.map(({ prompted, ended, found }) => prompted || ended || found)"
    )
    assert np.any(states)
    page.close()
    assert failures == []
