"""Label Studio itself, with sqlite, in Chromium: connect, predict, click; its own package reads the brush.

pip install playwright, and Debian's chromium. Label Studio is installed into an environment of its own: a gigabyte.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segserve.masks import crop
from segserve.types import Size
from segserve.wire.frontends.label_studio import brush_rle
from tests.clients.environments import install, run
from tests.conftest import EXAMPLES
from tests.serving import Server

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

VERSION = "1.23.2"
CONFIGS = Path(__file__).parents[2] / "clients" / "label-studio"
SCRIPT = Path(__file__).parent / "label_studio" / "brushes.py"
USER, PASSWORD, TOKEN = "ada@example.org", "nuclei-2026", "1" * 40
START_TIMEOUT_S = 900  # it makes its database, which takes minutes on a busy machine
X, Y = 165, 308  # on a nucleus of examples/nuclei.png that touches no other
OTSU = 63  # Otsu's threshold of that picture


class LabelStudio:
    """A Label Studio that runs, and its API."""

    def __init__(self, folder: Path) -> None:
        python = install("label-studio", f"label-studio=={VERSION}")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url, self.python = f"http://localhost:{port}", python
        self.log = folder / "label-studio.log"
        env = {
            **os.environ,
            "HOME": str(folder),
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        command = [str(python.with_name("label-studio")), "start", "--no-browser", "--port", str(port)]
        command += ["--username", USER, "--password", PASSWORD, "--user-token", TOKEN]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=folder
            )
        headers = {"Authorization": f"Token {TOKEN}"}
        self.api = httpx.Client(base_url=self.url, headers=headers, timeout=120)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            try:
                if self.api.get("/api/projects/").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)

    def stop(self) -> None:
        self.api.close()
        self.process.terminate()
        self.process.wait(timeout=60)

    def send(self, path: str, **content: Any) -> Any:
        answer = self.api.post(path, **content)
        assert answer.is_success, answer.text
        return answer.json()

    def make_project(self, config: str, *pictures: Path) -> int:
        """Return the number of a project with these pictures."""
        body = {"title": config, "label_config": (CONFIGS / config).read_text()}
        number = int(self.send("/api/projects/", json=body)["id"])
        for picture in pictures:
            self.send(f"/api/projects/{number}/import", files={"file": (picture.name, picture.read_bytes())})
        return number

    def list_tasks(self, project: int) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = self.api.get(
            "/api/tasks/", params={"project": project, "fields": "all"}
        ).json()["tasks"]
        return tasks


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    started = LabelStudio(tmp_path_factory.mktemp("label-studio"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def page(label_studio: LabelStudio) -> Iterator[Any]:
    """A browser whose user has logged in."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(120_000)
        opened.goto(f"{label_studio.url}/user/login/")
        opened.fill("input[name=email]", USER)
        opened.fill("input[name=password]", PASSWORD)
        opened.press("input[name=password]", "Enter")
        opened.wait_for_url(lambda url: "login" not in url, wait_until="domcontentloaded")
        yield opened
        browser.close()


def truth() -> np.ndarray:
    """The nucleus, by its brightness alone."""
    with Image.open(EXAMPLES / "nuclei.png") as picture:
        parts, _ = ndimage.label(np.array(picture) > OTSU)
    nucleus: np.ndarray = ndimage.binary_fill_holes(parts == parts[Y, X])
    return nucleus


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


def read_by_label_studio(label_studio: LabelStudio, folder: Path, rles: list[list[int]]) -> list[np.ndarray]:
    """Return the values that label_studio_sdk reads, one for each channel of each pixel."""
    source, target = folder / "rles.json", folder / "values.npz"
    source.write_text(json.dumps(rles))
    run(label_studio.python, SCRIPT, "decode", str(source), str(target))
    with np.load(target) as values:
        return [values[name] for name in values.files]


def test_a_click_in_the_browser_is_the_nucleus(
    server: Server, label_studio: LabelStudio, page: Any, nuclei: Path, tmp_path: Path
) -> None:
    project = label_studio.make_project("brush.xml", nuclei)
    page.goto(f"{label_studio.url}/projects/{project}/settings/ml", wait_until="domcontentloaded")
    page.get_by_text("Connect Model").first.click()
    page.fill("input[name=title]", "segserve")
    page.fill("input[name=url]", f"{server.url}/label-studio")
    page.locator("label:has(input[name=is_interactive])").click()
    with page.expect_response(
        lambda answer: answer.url.endswith("/api/ml") or "/api/ml?" in answer.url
    ) as saved:
        page.click('button:has-text("Validate and Save")')
    assert saved.value.ok, saved.value.text()
    [task] = label_studio.list_tasks(project)

    page.goto(f"{label_studio.url}/projects/{project}/data?task={task['id']}", wait_until="domcontentloaded")
    page.get_by_text("Auto-Annotation").first.click()
    page.click('[aria-label="Create an annotation"]')
    page.wait_for_function("() => Htx.annotationStore.selected?.objects?.[0]?.stageRef")
    page.wait_for_timeout(1000)  # the picture fits itself into the window
    page.keyboard.press("m")
    page.locator(".lsf-label").nth(2).click()  # the first of the points
    stage = page.locator("canvas").first.bounding_box()
    height, width = truth().shape
    with page.expect_response(lambda answer: "interactive-annotating" in answer.url) as asked:
        page.mouse.click(
            stage["x"] + (X + 0.5) * stage["width"] / width, stage["y"] + (Y + 0.5) * stage["height"] / height
        )
    answer = asked.value.json()
    assert "errors" not in answer, answer
    [region] = answer["data"]["result"]
    prompt = asked.value.request.post_data_json["context"]["result"]
    assert [(part["type"], part["is_positive"]) for part in prompt] == [("keypointlabels", True)]
    page.wait_for_function("() => Htx.annotationStore.selected.suggestions.size === 1")
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)
        page.screenshot(path=f"{folder}/click.png")
    page.evaluate("() => Htx.annotationStore.selected.acceptAllSuggestions()")
    with page.expect_response(
        lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
    ):
        page.click('[aria-label="Submit current annotation"]')

    [task] = label_studio.list_tasks(project)
    kept = [part for part in task["annotations"][0]["result"] if part["type"] == "brushlabels"]
    assert [part["value"]["brushlabels"] for part in kept] == [["Nucleus"]]
    sent = brush_rle.decode(bytes(region["value"]["rle"]), Size(height, width), "rle")
    assert iou(sent, truth()) >= 0.75
    # As it was answered, and as the browser has saved it.
    rles = [part["value"]["rle"] for part in (region, kept[0])]
    for values in read_by_label_studio(label_studio, tmp_path, rles):
        assert np.array_equal(values.reshape(height, width, 4)[..., 3] > 0, sent)


def test_predictions_are_all_nuclei(server: Server, label_studio: LabelStudio, nuclei: Path) -> None:
    project = label_studio.make_project("polygons-and-boxes.xml", nuclei)
    backend = {
        "url": f"{server.url}/label-studio/starter",
        "project": project,
        "title": "all",
        "is_interactive": False,
    }
    label_studio.send("/api/ml/", json=backend)
    before = server.metric('segserve_frontend_images_total{source="read"}')
    [task] = label_studio.list_tasks(project)
    body = {"selectedItems": {"all": False, "included": [task["id"]]}, "project": project}
    label_studio.send(
        "/api/dm/actions/", params={"id": "retrieve_tasks_predictions", "project": project}, json=body
    )
    [prediction] = label_studio.list_tasks(project)[0]["predictions"]
    assert prediction["model_version"] == "starter ais"
    kinds = {region["type"] for region in prediction["result"]}
    assert kinds == {"polygonlabels"}
    assert len(prediction["result"]) > 20
    assert server.metric('segserve_frontend_images_total{source="read"}') <= before + 1


def test_label_studios_package_agrees_on_brushes(label_studio: LabelStudio, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    masks = [rng.random((40, 60)) < density for density in (0.0, 0.02, 0.5, 1.0)]
    masks.append(np.add.outer(np.arange(400), np.arange(300)) % 130 < 60)
    mine = [brush_rle.encode(crop.from_mask(mask)).tolist() for mask in masks]
    for mask, values in zip(masks, read_by_label_studio(label_studio, tmp_path, mine), strict=True):
        assert np.array_equal(values.reshape(*mask.shape, 4), np.repeat(mask[..., None] * 255, 4, axis=2))
    source, target = tmp_path / "masks.npz", tmp_path / "rles.json"
    np.savez(source, *masks)
    run(label_studio.python, SCRIPT, "encode", str(source), str(target))
    assert json.loads(target.read_text()) == mine
