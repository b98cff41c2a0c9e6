"""OHIF with MONAI Label's panel, in a real browser, out of the `monailabel` wheel: a click on a CT.

The page of clients/monai-label is followed: serve_ohif.py serves OHIF and passes on what it asks of the DICOMweb
server, which is a fake.
"""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path

from tests.clients.environments import TIMEOUT_S
from tests.clients.monai.dicomweb_fake import DicomwebFake
from tests.files.dicom.sample_dicom import encode, make_slice
from tests.serving import Server

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

WHEEL = "monailabel==0.8.5"
SERVE_OHIF = Path(__file__).parents[2] / "clients" / "monai-label" / "serve_ohif.py"
SLICES, ROWS, COLUMNS = 24, 160, 192
SERIES = "1.2.3.1"
# x, y, z of the middle, radii, value: on no axis in the middle, so that no turned volume passes.
BRIGHT = (60, 64, 13, 24, 18, 7, 260.0)
DARK = (128, 92, 9, 16, 22, 6, -120.0)
WAIT_MS = 120_000
# The browser draws volumes by WebGL without a GPU.
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
]


def ellipsoid(x: int, y: int, z: int, rx: int, ry: int, rz: int, _: float) -> NDArray[np.bool_]:
    """[slices, rows, columns]"""
    k, j, i = np.mgrid[:SLICES, :ROWS, :COLUMNS]
    inside: NDArray[np.bool_] = ((i - x) / rx) ** 2 + ((j - y) / ry) ** 2 + ((k - z) / rz) ** 2 < 1
    return inside


def draw_ct() -> list[bytes]:
    """The files of a drawn CT with two organs, the last slice first."""
    rng = np.random.default_rng(3)
    values = rng.normal(-700, 25, (SLICES, ROWS, COLUMNS))
    body = ellipsoid(96, 80, 12, 80, 66, 1000, 40)
    values[body] = rng.normal(40, 15, int(body.sum()))
    for organ in (BRIGHT, DARK):
        inside = ellipsoid(*organ)
        values[inside] = rng.normal(organ[-1], 18, int(inside.sum()))
    return [
        encode(
            make_slice(
                values[k].astype(np.int16),
                (-90.0, -80.0, 3.0 * k),
                number=SLICES - k,
                series=SERIES,
                spacing=(1.0, 1.0),
                PatientName="Phantom^Drawn",
                PatientID="P1",
                StudyID="1",
                StudyDate="20261128",
                StudyTime="100000",
                AccessionNumber="1",
                SeriesNumber=1,
                SeriesDescription="drawn CT",
                RescaleSlope=1,
                RescaleIntercept=0,
                WindowCenter=40,
                WindowWidth=900,
            )
        )
        for k in reversed(range(SLICES))
    ]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel that has OHIF in it, downloaded once."""
    folder = user_cache_path("segserve-tests") / "monailabel-wheel"
    found = list(folder.glob("monailabel-*.whl"))
    if not found:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
            WHEEL,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        found = list(folder.glob("monailabel-*.whl"))
        if done.returncode or not found:
            pytest.skip(f"the monailabel wheel cannot be downloaded: {done.stderr[-400:]}")
    return found[0]


@pytest.fixture(scope="module")
def dicomweb() -> Iterator[DicomwebFake]:
    with closing(DicomwebFake(draw_ct())) as running:
        yield running


@pytest.fixture(scope="module")
def ohif(wheel: Path, dicomweb: DicomwebFake) -> Iterator[str]:
    """The address of OHIF."""
    command = [sys.executable, str(SERVE_OHIF), str(wheel), dicomweb.url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        yield address[0]
        process.terminate()


@pytest.fixture(scope="module")
def monai(ohif: str, dicomweb: DicomwebFake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("monai"),
        dicomweb_url=dicomweb.url,
        dicomweb_hosts='["127.0.0.1"]',
        dicomweb_private="true",
        cors_origins=json.dumps([ohif.removesuffix("/ohif/")]),
        monai_labels='["liver", "tumor"]',
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture
def page() -> Iterator[Any]:
    api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_OPTIONS)
        opened = browser.new_page(viewport={"width": 1280, "height": 800})
        opened.set_default_timeout(WAIT_MS)
        yield opened
        browser.close()


def look(page: Any) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(np.int16)


def find_organ(view: NDArray[np.int16]) -> tuple[int, int]:
    """Return the middle of the bright organ in the first view, in pixels of the window."""
    left, right = 300, 500  # of the axial view, without its edge
    bright = view[300:520, left:right].min(axis=2) > 150
    ys, xs = np.nonzero(bright)
    return left + int(np.median(xs)), 300 + int(np.median(ys))


def test_a_click_in_ohif_is_a_mask_in_its_place(
    ohif: str, monai: Server, dicomweb: DicomwebFake, page: Any
) -> None:
    page.goto(ohif)
    page.click("text=Phantom, Drawn")
    page.click('button:has-text("MONAI Label")')
    page.wait_for_selector("#monailabelServerURL")
    page.click("text=Confirm and Hide")
    page.fill("#monailabelServerURL", f"{monai.url}/monai/")
    page.click(".settingsTable .actionButton")
    page.wait_for_selector("text=Connected to MONAI Label - Successful")
    page.click('label:has-text("Point Prompts")')
    tab = page.locator("div.tab", has=page.locator('label:text-is("Point Prompts")'))
    tab.locator("select").select_option("starter_2d")
    tab.locator('.optionsTable td:text-is("liver")').click()
    page.wait_for_function("() => document.querySelectorAll('canvas').length >= 3")
    # Until its pictures have come, and nothing covers them.
    before = look(page)
    for _ in range(120):
        page.wait_for_timeout(500)
        if (np.abs((now := look(page)) - before).max() == 0) and (
            now[300:520, 300:500].min(axis=2) > 150
        ).sum() > 300:
            break
        before = now
    x, y = find_organ(before)
    page.mouse.click(x, y)
    page.wait_for_timeout(1000)
    with page.expect_response(lambda response: "/infer/" in response.url) as waiting:
        tab.locator('button:has-text("Run")').click()
    answer = waiting.value
    assert answer.status == 200, answer.text()
    assert f"image={SERIES}&output=image" in answer.url
    point = json.loads(re.search(r'"foreground":\[(\[.*?\])\]', answer.request.post_data)[1])  # type: ignore[index]
    truth = ellipsoid(*BRIGHT)
    assert truth[point[2], point[1], point[0]], "OHIF's index is on the organ"
    labels = np.frombuffer(answer.body().partition(b"\n\n")[2], np.uint8).reshape(truth.shape) > 0
    on_slice = truth & (np.arange(SLICES) == point[2])[:, None, None]
    assert (labels & on_slice).sum() / (labels | on_slice).sum() > 0.9
    # What is seen: the organ, and nothing else of the view, has a colour.
    page.wait_for_selector("text=Running Inference for Point Prompts - Successful")
    page.wait_for_timeout(3000)
    after = look(page)
    coloured = (after.max(axis=2) - after.min(axis=2))[300:520, 300:500] > 25
    organ = before[300:520, 300:500].min(axis=2) > 150
    assert (coloured & organ).sum() / (coloured | organ).sum() > 0.6
    fetches = [path for path in dicomweb.requests if path.endswith(f"/series/{SERIES}")]
    assert len(fetches) == 1, "the service fetches the series once"
