"""The page in a real browser, on a real service: pip install playwright, and Debian's chromium."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from tests.serving import Server

pytestmark = pytest.mark.clients

WIDTH, HEIGHT = 400, 300
BLOB = (60, 45, 140, 135)  # x0, y0, x1, y1 of an ellipse, off the diagonal so that no transposed mask passes
DROP = """([data, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
  document.querySelector("main").dispatchEvent(
    new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PAINTED = """([width, height]) => {
  const small = Object.assign(document.createElement("canvas"), { width, height }), pen = small.getContext("2d");
  pen.drawImage(document.querySelector("#overlay"), 0, 0, width, height);
  return Array.from(pen.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 3));
}"""

SHOWN = """([width, height]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height }), pen = canvas.getContext("2d");
  pen.drawImage(document.querySelector("#image"), 0, 0, width, height);
  return Array.from(pen.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 0));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """Opened, with its models listed. No script on it may fail, nothing may break its policy."""
    opened = browser.new_page(viewport={"width": 1000, "height": 800})
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on("console", lambda m: failures.append(m.text) if "Content Security Policy" in m.text else None)
    opened.goto(server.url)
    opened.wait_for_selector("#model option", state="attached")
    yield opened
    opened.close()
    assert failures == []


def blob() -> Image.Image:
    picture = Image.new("L", (WIDTH, HEIGHT), 20)
    ImageDraw.Draw(picture).ellipse(BLOB, fill=220)
    return picture


def drop(page: Any, data: bytes, name: str, media_type: str) -> None:
    page.evaluate(DROP, [base64.b64encode(data).decode(), name, media_type])


def drop_blob(page: Any) -> None:
    file = io.BytesIO()
    blob().save(file, "PNG")
    drop(page, file.getvalue(), "blob.png", "image/png")
    page.wait_for_selector("#frame:visible")


def click(page: Any, x: float, y: float, **how: Any) -> None:
    """At a pixel of the picture."""
    frame = page.locator("#frame").bounding_box()
    page.mouse.click(
        frame["x"] + x * frame["width"] / WIDTH, frame["y"] + y * frame["height"] / HEIGHT, **how
    )


def wait_for_status(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#status').textContent.includes(text)", arg=text)


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def test_drop_click_keep_download(page: Any) -> None:
    drop_blob(page)
    assert not page.is_visible("#empty")
    click(page, 100, 90)
    wait_for_status(page, "Found")
    assert page.inner_text("#decode").endswith(" ms")
    painted = np.array(page.evaluate(PAINTED, [WIDTH, HEIGHT])).reshape(HEIGHT, WIDTH) > 0
    truth = np.asarray(blob()) > 100
    assert overlap(painted, truth) > 0.7

    page.keyboard.press("Enter")
    page.wait_for_selector("#kept li")
    with page.expect_download() as coco_download:
        page.click("#coco")
    document = json.loads(coco_download.value.path().read_text())
    [annotation] = document["annotations"]
    mask = coco.decode(annotation["segmentation"]).astype(bool)
    assert overlap(mask, truth) > 0.7
    assert annotation["area"] == mask.sum()
    assert annotation["bbox"] == coco.toBbox(annotation["segmentation"]).tolist()
    assert document["images"] == [{"id": 1, "file_name": "blob.png", "width": WIDTH, "height": HEIGHT}]

    with page.expect_download() as png_download:
        page.click("[aria-label='Download the mask of object 1 as PNG']")
    assert png_download.value.suggested_filename == "blob-object-1.png"
    pixels = np.asarray(Image.open(png_download.value.path()).convert("L"))
    assert np.array_equal(pixels, np.where(mask, 255, 0))


def test_only_models_that_take_clicks_are_offered(page: Any, server: Server) -> None:
    models = server.client.get("/v1/models").json()["models"]
    offered = page.locator("#model option").all_inner_texts()
    assert offered == [model["name"] for model in models if model["kind"] in ("sam", "sam2")]
    assert len(offered) < len(models)


def test_a_16_bit_stack_is_shown_as_models_see_it(page: Any) -> None:
    file = io.BytesIO()
    dim = np.asarray(blob()).astype(np.uint16) * 3 + 200
    tifffile.imwrite(file, np.stack([dim, dim]), photometric="minisblack")
    drop(page, file.getvalue(), "blob.tif", "image/tiff")
    page.wait_for_selector("#frame:visible")
    assert not page.is_visible("#hint")
    shown = page.evaluate(SHOWN, [WIDTH, HEIGHT])
    assert np.corrcoef(np.array(shown), np.asarray(blob()).ravel())[0, 1] > 0.98
    assert max(shown) - min(shown) > 200
    click(page, 100, 90)
    wait_for_status(page, "Found")


def test_the_reference_loads_nothing_from_elsewhere(browser: Any, server: Server) -> None:
    page = browser.new_page()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() > 20
    page.close()
    assert [url for url in urls if not url.startswith((server.url, "data:"))] == []


def test_clicks_refine_and_are_undone(page: Any) -> None:
    prompts: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda r: prompts.append(json.loads(r.post_data)["prompts"][0]) if "segment" in r.url else None,
    )
    drop_blob(page)
    click(page, 100, 90)
    wait_for_status(page, "Found")
    page.keyboard.down("Shift")
    with page.expect_response("**/v1/segment"):
        click(page, 300, 200)
    page.keyboard.up("Shift")
    assert [len(prompt["points"]) for prompt in prompts] == [1, 2]
    assert prompts[1]["labels"] == [1, 0]
    assert np.abs(np.array(prompts[1]["points"]) - [[100, 90], [300, 200]]).max() < 1
    assert "mask_id" not in prompts[0]
    assert prompts[1]["mask_id"]
    assert page.locator("#marks circle").count() == 2
    page.keyboard.press("Backspace")
    assert page.locator("#marks circle").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#marks circle").count() == 0
    assert page.inner_text("#score") == "–"


def test_a_late_answer_does_not_replace_a_newer_one(page: Any) -> None:
    held: list[Any] = []
    page.route("**/v1/segment", lambda route: route.continue_() if held else held.append(route))
    drop_blob(page)
    click(page, 100, 90)
    page.wait_for_function("document.querySelector('#status').textContent === 'Segmenting…'")
    click(page, 110, 80)
    wait_for_status(page, "Found")
    shown = page.inner_text("#round-trip")
    with page.expect_response("**/v1/segment"):
        held[0].continue_()
    page.wait_for_timeout(100)
    assert page.inner_text("#round-trip") == shown


def test_a_refusal_is_shown_with_its_remedy(page: Any) -> None:
    drop(page, b"no picture", "notes.txt", "text/plain")
    page.wait_for_selector("#error:visible")
    assert "PNG, JPEG" in page.inner_text("#error")
    assert page.is_visible("#empty")


def test_the_address_may_name_a_picture_and_clicks(page: Any, server: Server) -> None:
    file = io.BytesIO()
    blob().save(file, "PNG")
    image_id = server.upload(file.getvalue())
    page.goto("about:blank")
    page.goto(f"{server.url}/#image={image_id}&point=100,90&point=100,95")
    page.wait_for_selector("#kept li")
    wait_for_status(page, "Found")
    assert page.is_visible("#image")
