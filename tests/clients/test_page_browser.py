"""The page in a real browser, on a real service."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
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
SECOND = (240, 160, 330, 250)
DROP = """([data, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
  document.querySelector("main").dispatchEvent(
    new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
# [state, area, number of points] of each object of the open picture, from the bottom to the top.
OBJECTS = """() => segserve.labelling.objects.map(
  ({ state, area, prompt, pending }) => [state, area, prompt?.points.length ?? 0, pending])"""
READY = "() => [...segserve.session.pictureStates.values()].some(({ state }) => state === 'ready')"


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """Opened in a context of its own, with its models listed. No script may fail, nothing may break its policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on("console", lambda m: failures.append(m.text) if "Content Security Policy" in m.text else None)
    opened.set_default_timeout(60_000)
    opened.goto(server.url)
    opened.wait_for_selector("#model option", state="attached")
    yield opened
    context.close()
    assert failures == []


def picture() -> Image.Image:
    drawn = Image.new("L", (WIDTH, HEIGHT), 20)
    for ellipse in (BLOB, SECOND):
        ImageDraw.Draw(drawn).ellipse(ellipse, fill=220)
    return drawn


def truth() -> np.ndarray:
    drawn = Image.new("L", (WIDTH, HEIGHT), 0)
    ImageDraw.Draw(drawn).ellipse(BLOB, fill=255)
    return np.asarray(drawn) > 0


def as_png(drawn: Image.Image) -> bytes:
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()


def drop(page: Any, data: bytes, name: str, media_type: str) -> None:
    page.evaluate(DROP, [base64.b64encode(data).decode(), name, media_type])


def drop_picture(page: Any) -> None:
    drop(page, as_png(picture()), "blob.png", "image/png")
    wait_ready(page)


def wait_ready(page: Any) -> None:
    """Wait until the picture is shown and encoded."""
    page.wait_for_function(READY)
    page.wait_for_function("() => segserve.viewer.transform")


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the picture is on the screen."""
    left, top = page.evaluate("([x, y]) => segserve.viewer.toScreen([x, y])", [x, y])
    frame = page.locator("#glass").bounding_box()
    return frame["x"] + left, frame["y"] + top


def click(page: Any, x: float, y: float, **how: Any) -> None:
    page.mouse.click(*place(page, x, y), **how)


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*place(page, *start))
    page.mouse.down()
    page.mouse.move(*place(page, *end), steps=4)
    page.mouse.up()


def wait_answered(page: Any, number: int) -> list[list[Any]]:
    """Wait until there are so many objects, and none waits for its mask. Returns them."""
    page.wait_for_function(
        f"(n) => (({OBJECTS})()).length === n && (({OBJECTS})()).every(([, , , pending]) => !pending)",
        arg=number,
    )
    return list(page.evaluate(OBJECTS))


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def export_coco(page: Any) -> dict[str, Any]:
    page.keyboard.press("Control+s")
    with page.expect_download() as download:
        page.click("#download")
    return dict(json.loads(download.value.path().read_text()))


def test_drop_click_accept_export(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    document = export_coco(page)
    [annotation] = document["annotations"]
    mask = coco.decode(annotation["segmentation"]).astype(bool)
    assert overlap(mask, truth()) > 0.7
    assert annotation["area"] == mask.sum()
    assert [image["file_name"] for image in document["images"]] == ["blob.png"]

    page.click("#objects [role=option]")
    with page.expect_download() as png_download:
        page.get_by_role("button", name="PNG", exact=True).click()
    assert png_download.value.suggested_filename == "blob-object-1.png"
    pixels = np.asarray(Image.open(png_download.value.path()).convert("L"))
    assert np.array_equal(pixels, np.where(mask, 255, 0))


def test_the_mask_follows_the_pointer(page: Any) -> None:
    drop_picture(page)
    page.mouse.move(*place(page, 100, 90))
    page.wait_for_function("() => segserve.session.hovering?.area > 1000")
    page.mouse.move(*place(page, 280, 200))
    page.wait_for_function("() => segserve.session.hovering?.box[0] > 200")
    assert page.evaluate(OBJECTS) == []


def test_clicks_refine_and_everything_is_undone_and_done_again(page: Any) -> None:
    prompts: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda r: prompts.append(json.loads(r.post_data)) if r.url.endswith("/segment") else None,
    )
    drop_picture(page)
    page.keyboard.press("y")  # no preview
    prompts.clear()
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.down("Shift")
    click(page, 300, 100)
    page.keyboard.up("Shift")
    [first_state] = wait_answered(page, 1)
    asked = [body["prompts"][0] for body in prompts if body["select"] == "best"]
    assert [prompt["labels"] for prompt in asked] == [[1], [1, 0]]
    assert np.abs(np.array(asked[1]["points"]) - [[100, 90], [300, 100]]).max() < 1
    assert "mask_id" not in asked[0]
    assert asked[1]["mask_id"]
    page.keyboard.press("Enter")
    drag(page, (230, 150), (340, 260))
    states = wait_answered(page, 2)
    assert [state for state, *_ in states] == ["done", "draft"]
    page.keyboard.press("Enter")
    final = page.evaluate(OBJECTS)
    for _ in range(5):
        page.keyboard.press("Control+z")
    assert page.evaluate(OBJECTS) == []
    for _ in range(5):
        page.keyboard.press("Control+Shift+z")
    assert page.evaluate(OBJECTS) == final
    assert first_state[2] == 2


def test_candidates_brush_split_join_and_classes(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    page.wait_for_function("() => segserve.labelling.current?.candidates.length === 3")
    areas = page.evaluate("() => segserve.labelling.current.candidates.map(({ area }) => area)")
    for number in (3, 1, 2):
        page.keyboard.press(str(number))
        assert page.evaluate("() => segserve.labelling.current.area") == areas[number - 1]
    page.keyboard.press("b")
    drag(page, (20, 270), (60, 270))
    [[_, painted, *_]] = page.evaluate(OBJECTS)
    assert painted > areas[1]
    page.keyboard.press("Enter")
    page.keyboard.press("v")
    click(page, 100, 90)
    page.keyboard.press("p")
    assert len(page.evaluate(OBJECTS)) == 2
    page.keyboard.press("u")
    assert [area for _, area, *_ in page.evaluate(OBJECTS)] == [painted]
    page.get_by_role("button", name="Add a class").click()
    page.keyboard.press("Alt+2")
    assert page.evaluate(
        "() => segserve.store.document.classes.get(segserve.labelling.objects[0].class).name"
    ) == ("class 2")


def test_everything_and_nothing_twice(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    page.keyboard.press("f")
    page.wait_for_function("() => !segserve.session.busy && /found/.test(segserve.session.status)")
    boxes = page.evaluate("() => segserve.labelling.objects.map(({ box }) => box)")
    assert sum(box[2] < 200 for box in boxes) == 1
    assert any(box[0] > 200 for box in boxes)


def test_similar_objects_are_accepted_one_by_one(page: Any, nuclei: Path) -> None:
    page.set_input_files("#file", nuclei)
    wait_ready(page)
    click(page, 413, 190)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.press("l")
    page.wait_for_function("() => segserve.labelling.suggestions.length > 4 && segserve.labelling.suggestion")
    number = page.evaluate("() => segserve.labelling.suggestions.length")
    page.keyboard.press("Enter")
    page.keyboard.press("Delete")
    assert page.evaluate("() => segserve.labelling.suggestions.length") == number - 2
    page.keyboard.press("Shift+Enter")
    assert [state for state, *_ in page.evaluate(OBJECTS)] == ["done"] * number


def test_labels_and_pending_clicks_outlast_a_reload_without_the_service(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    page.route("**/segment", lambda route: route.abort())
    click(page, 280, 200)
    page.wait_for_selector("text=The service does not answer")
    assert [state for state, *_ in page.evaluate(OBJECTS)] == ["done", "draft"]
    page.evaluate("() => segserve.database.writing")
    page.unroute("**/segment")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    states = wait_answered(page, 2)
    assert [state for state, *_ in states] == ["done", "draft"]
    assert all(area > 1000 for _, area, *_ in states)
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert page.evaluate(OBJECTS) == []


def test_a_mask_id_that_has_expired_is_replaced_by_the_mask(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.evaluate("() => segserve.store.amend('objects', segserve.labelling.current.id, { maskId: 'gone' })")
    click(page, 110, 100)
    [[_, area, points, _]] = wait_answered(page, 1)
    assert points == 2
    assert area > 1000
    assert not page.is_visible(".problem")


def test_only_models_that_take_clicks_are_offered(page: Any, server: Server) -> None:
    models = server.client.get("/v1/models").json()["models"]
    offered = page.locator("#model option").all_inner_texts()
    assert offered == [model["name"] for model in models if model["kind"] in ("sam", "sam2")]
    assert len(offered) < len(models)


def test_a_16_bit_stack_is_opened_and_clicked(page: Any) -> None:
    file = io.BytesIO()
    dim = np.asarray(picture()).astype(np.uint16) * 3 + 200
    tifffile.imwrite(file, np.stack([dim, dim]), photometric="minisblack")
    drop(page, file.getvalue(), "blob.tif", "image/tiff")
    wait_ready(page)
    click(page, 100, 90)
    [[_, area, *_]] = wait_answered(page, 1)
    assert area > 1000


def test_a_broken_picture_among_others_says_what_to_do(page: Any) -> None:
    files = [
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"},
        {"name": "blob.png", "mimeType": "image/png", "buffer": as_png(picture())},
    ]
    page.set_input_files("#file", files)
    page.wait_for_selector("text=notes.txt cannot be opened")
    assert "PNG, JPEG" in page.inner_text(".start-card")
    page.wait_for_function(READY)
    page.keyboard.press("d")
    wait_ready(page)
    click(page, 100, 90)
    wait_answered(page, 1)


def test_by_keyboard_alone(page: Any) -> None:
    drop_picture(page)
    page.keyboard.press("ArrowLeft")
    page.evaluate("() => { segserve.cursor = [100, 90]; }")
    page.keyboard.press(".")
    wait_answered(page, 1)
    page.keyboard.press("n")
    assert [state for state, *_ in page.evaluate(OBJECTS)] == ["done"]
    page.keyboard.press("?")
    page.click("[data-key-of=accept]")
    page.keyboard.press("q")
    page.keyboard.press("Escape")
    page.evaluate("() => { segserve.cursor = [280, 200]; }")
    page.keyboard.press(".")
    wait_answered(page, 2)
    page.keyboard.press("q")
    assert [state for state, *_ in page.evaluate(OBJECTS)] == ["done", "done"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()

    def serious() -> list[str]:
        found = axe.run(page).response["violations"]
        return [
            f"{rule['id']}: {rule['nodes'][0]['html']}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]

    page.emulate_media(color_scheme=scheme)
    assert serious() == []
    drop_picture(page)
    click(page, 100, 90)
    page.wait_for_function("() => segserve.labelling.current?.candidates.length === 3")
    assert serious() == []
    page.keyboard.press("?")
    page.wait_for_selector("dialog#keys")
    assert serious() == []


def test_on_a_phone_by_touch(browser: Any, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#model option", state="attached")
    drop_picture(page)
    page.touchscreen.tap(*place(page, 100, 90))
    wait_answered(page, 1)
    page.get_by_role("button", name="off it").tap()
    page.touchscreen.tap(*place(page, 300, 100))
    [[_, area, points, _]] = wait_answered(page, 1)
    assert (area > 1000, points) == (True, 2)
    page.get_by_role("button", name="Accept").tap()
    page.get_by_role("button", name="Objects", exact=True).tap()
    page.wait_for_selector("#objects [role=option]")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_address_may_name_a_picture_and_clicks(page: Any, server: Server) -> None:
    image_id = server.upload(as_png(picture()))
    page.goto("about:blank")
    page.goto(f"{server.url}/#image={image_id}&point=100,90&point=280,200")
    page.wait_for_selector("#model option", state="attached")
    states = wait_answered(page, 2)
    assert [state for state, *_ in states] == ["done", "draft"]


def test_the_reference_loads_nothing_from_elsewhere(browser: Any, server: Server) -> None:
    page = browser.new_page()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() > 20
    page.close()
    assert [url for url in urls if not url.startswith((server.url, "data:"))] == []
