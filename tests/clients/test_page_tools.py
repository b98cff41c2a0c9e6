"""Tools and options of the page in a real browser: eraser, outlines, cleaning, overlaps, folders, semantic overlay,
where clicks are decoded, runs that outlast the page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from tests.clients.test_page_browser import (
    OBJECTS,
    as_png,
    click,
    drag,
    drop_picture,
    picture,
    wait_answered,
    wait_ready,
)
from tests.serving import Server

pytestmark = pytest.mark.clients

TIMEOUT_MS = 90_000
FIRST_OBJECT = "segserve.labelling.objects[0]"


@pytest.fixture(scope="module")
def opened(browser: Any, server: Server) -> Iterator[Any]:
    """One page for all tests of the module: it is emptied before each."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(server.url)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()


@pytest.fixture
def page(opened: Any, server: Server) -> Iterator[Any]:
    failures: list[str] = []

    def note(error: Any) -> None:
        failures.append(str(error))

    opened.on("pageerror", note)
    opened.evaluate("async () => { await segserve.database.clear(); localStorage.clear(); }")
    opened.goto(server.url)
    opened.wait_for_selector("#model option", state="attached")
    yield opened
    opened.remove_listener("pageerror", note)
    opened.unroute_all()
    assert failures == []


def read_mask(page: Any, number: int = 0) -> np.ndarray:
    mask = page.evaluate("(n) => segserve.labelling.objects[n].mask", number)
    return np.asarray(coco.decode(mask)).astype(bool)


def wait(page: Any, expression: str) -> None:
    page.wait_for_function(f"() => {expression}")


def accept_first(page: Any) -> None:
    """Click the first blob, and accept it."""
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")


def test_the_eraser_takes_away_and_shift_gives_back(page: Any) -> None:
    drop_picture(page)
    accept_first(page)
    before = read_mask(page)
    page.click("#objects [role=option]")
    page.keyboard.press("e")
    drag(page, (100, 60), (100, 120))
    after = read_mask(page)
    assert not (after & ~before).any()
    assert before[90, 100]
    assert not after[90, 100]
    page.keyboard.down("Shift")
    drag(page, (100, 60), (100, 120))
    page.keyboard.up("Shift")
    assert read_mask(page)[90, 100]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert np.array_equal(read_mask(page), before)


def test_holes_and_specks_are_cleaned_on_request(page: Any) -> None:
    drop_picture(page)
    accept_first(page)
    whole = read_mask(page)
    page.click("#objects [role=option]")
    page.keyboard.press("[")
    for _ in range(12):
        page.keyboard.press("[")
    page.keyboard.press("e")
    click(page, 100, 90)  # a hole
    page.keyboard.press("b")
    click(page, 350, 30)  # a speck
    dirty = read_mask(page)
    assert not dirty[90, 100]
    assert dirty[30, 350]
    page.get_by_role("button", name="Clean", exact=True).click()
    assert np.array_equal(read_mask(page), whole)
    assert "1 object cleaned" in page.inner_text("#status")


def test_a_box_is_tightened_and_asked_again(page: Any) -> None:
    drop_picture(page)
    drag(page, (20, 10), (180, 170))
    wait_answered(page, 1)
    loose = page.evaluate("segserve.labelling.current.prompt.box")
    tight = page.evaluate("segserve.labelling.current.box")
    page.keyboard.press("i")
    wait_answered(page, 1)
    assert page.evaluate("segserve.labelling.current.prompt.box") == tight != loose
    page.keyboard.press("Control+z")
    assert page.evaluate("segserve.labelling.current.prompt.box") == loose


def test_new_objects_leave_out_what_others_have(page: Any) -> None:
    drop_picture(page)
    accept_first(page)
    first = read_mask(page)
    page.evaluate("document.querySelector('details.options').open = true")
    page.check("#noOverlaps")
    page.keyboard.press("b")
    drag(page, (100, 90), (200, 90))  # half of it on the first object
    wait_answered(page, 2)
    page.keyboard.press("Enter")
    assert not (read_mask(page, 1) & first).any()
    assert read_mask(page, 1)[90, 190]
    assert np.array_equal(read_mask(page, 0), first)
    # Without the option they overlap, and an action takes that away.
    page.uncheck("#noOverlaps")
    drag(page, (100, 100), (200, 100))
    wait_answered(page, 3)
    page.keyboard.press("Enter")
    assert (read_mask(page, 2) & first).any()
    page.evaluate("segserve.run('removeOverlaps')")
    assert not (read_mask(page, 2) & first).any()


def test_the_outline_is_simplified_reversibly(page: Any) -> None:
    drop_picture(page)
    accept_first(page)
    exact = read_mask(page)
    page.click("#objects [role=option]")

    def slide(step: int) -> None:
        page.eval_on_selector(
            "#detail",
            "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('change')); }",
            step,
        )

    slide(9)
    assert page.evaluate(f"{FIRST_OBJECT}.tolerance") == 12
    assert "within 12 px" in page.inner_text("#object")
    page.keyboard.press("Control+s")
    page.check("input[value=cocoPolygons]")
    with page.expect_download() as download:
        page.click("#download")
    [annotation] = json.loads(download.value.path().read_text())["annotations"]
    [ring] = annotation["segmentation"]
    assert len(ring) < 40
    slide(0)
    assert page.evaluate(f"{FIRST_OBJECT}.tolerance") is None
    assert np.array_equal(read_mask(page), exact)
    page.keyboard.press("Control+z")
    assert page.evaluate(f"{FIRST_OBJECT}.tolerance") == 12


def test_prompts_of_an_accepted_object_are_reopened(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    click(page, 300, 60, button="right")
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    page.evaluate("() => segserve.database.writing")
    page.reload()
    page.wait_for_selector("#objects [role=option]")
    wait(page, "segserve.viewer.transform")
    page.keyboard.press("v")
    click(page, 100, 90)
    page.keyboard.press("r")
    assert page.evaluate("segserve.labelling.current.prompt.labels") == [1, 0]
    assert "2 points" in page.inner_text("#status")
    click(page, 70, 90)
    wait_answered(page, 1)
    assert page.evaluate("segserve.labelling.current.prompt.labels") == [1, 0, 1]
    assert page.evaluate(OBJECTS)[0][0] == "done"


def test_a_folder_is_opened_in_the_order_of_its_names(page: Any, tmp_path: Path) -> None:
    for name in ("cell10.png", "cell9.png", "deep/cell1.png"):
        path = tmp_path / "plate" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_png(picture()))
    (tmp_path / "plate" / "notes.txt").write_text("no picture")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a folder").click()
    chooser.value.set_files(tmp_path / "plate")
    wait_ready(page)
    names = page.evaluate("segserve.store.document.listPictures().map(({ name }) => name)")
    assert names == ["plate/cell9.png", "plate/cell10.png", "plate/deep/cell1.png"]
    page.keyboard.press("d")
    assert page.evaluate("segserve.labelling.picture.name") == "plate/cell10.png"


def test_classes_of_pixels_are_laid_over_and_taken(page: Any, nuclei: Path) -> None:
    page.set_input_files("#file", nuclei)
    wait_ready(page)
    page.keyboard.press("o")
    page.wait_for_selector("#semantic .found li")
    assert "%" in page.inner_text("#semantic .found li")
    name = page.evaluate("segserve.session.semantic.classes[0].name")
    page.get_by_role("button", name="Take as an object").click()
    [[state, area, *_]] = page.evaluate(OBJECTS)
    assert (state, area > 10_000) == ("done", True)
    assert page.evaluate(f"segserve.store.document.classes.get({FIRST_OBJECT}.class).name") == name
    page.locator("#semantic").get_by_role("button", name="Close").click()
    assert page.locator("#semantic").count() == 0


def test_where_clicks_are_decoded_is_chosen_and_shown(page: Any) -> None:
    drop_picture(page)
    page.evaluate("document.querySelector('details.options').open = true")
    click(page, 100, 90)
    [[_, by_service, *_]] = wait_answered(page, 1)
    assert page.inner_text("#decoded-by") == "by the service"
    assert "by the service" in page.inner_text("#decoding-now")
    page.keyboard.press("Escape")
    page.select_option("#decode", "browser")
    assert "in this browser" in page.inner_text("#decoding-now")
    click(page, 100, 90)
    [[_, by_browser, *_]] = wait_answered(page, 1)
    assert page.inner_text("#decoded-by") == "in this browser"
    assert abs(by_browser - by_service) < 0.01 * by_service
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.evaluate("segserve.decoding.decode") == "browser"
    page.select_option("#decode", "server", force=True)
    assert page.evaluate("segserve.decoding.decode") == "server"


AMG_ONLY = """async () => {
  const models = segserve.session.models.map((model) => ({ ...model, automatic: ["amg"] }));
  segserve.session.set({ models });
}"""


def test_a_long_run_outlasts_the_page_and_can_be_stopped(page: Any, server: Server) -> None:
    drop_picture(page)
    page.evaluate(AMG_ONLY)
    page.keyboard.press("f")
    page.wait_for_selector("#run")
    page.evaluate("() => segserve.database.writing")
    page.goto("about:blank")
    page.goto(server.url)
    wait(page, "globalThis.segserve?.labelling?.objects.length > 0 && !segserve.labelling.picture.run")
    assert "found" in page.inner_text("#status")
    number = len(page.evaluate(OBJECTS))
    assert number >= 2
    page.keyboard.press("Control+z")
    assert page.evaluate(OBJECTS) == []


def test_a_long_run_is_stopped(page: Any) -> None:
    """Its job is held as long as the test needs: with this model it is over within a second."""
    drop_picture(page)
    stopped: list[str] = []

    def answer(route: Any) -> None:
        address, method = route.request.url, route.request.method
        if method == "DELETE":
            stopped.append(address)
        job = {
            "job_id": "held",
            "state": "cancelled" if stopped else "running",
            "created_at": "2026-11-28T09:00:00+00:00",
            "progress": {"done": 0},
            "error": None,
        }
        if address.endswith("/events"):
            event = f"id: 1\nevent: {'end' if stopped else 'progress'}\ndata: {json.dumps(job)}\n\n"
            route.fulfill(body=event, headers={"content-type": "text/event-stream"})
        elif "/results" in address:
            route.fulfill(body="", headers={"content-type": "application/x-ndjson"})
        else:
            route.fulfill(json=job)

    page.route("**/v1/jobs/**", answer)
    page.evaluate(AMG_ONLY)
    page.keyboard.press("f")
    page.click("#stop-run")
    wait(page, "!segserve.labelling.picture.run")
    assert stopped
    assert page.inner_text("#status") == "Stopped."
    assert page.locator("#run").count() == 0
    assert not page.is_visible(".problem")


def test_a_request_that_becomes_a_job_is_followed(page: Any, server: Server) -> None:
    """As the service answers for pictures of too many tiles for one request."""
    drop_picture(page)
    image_id = page.evaluate("segserve.labelling.picture.imageId")
    body = {
        "kind": "batch",
        "input": {"image_ids": [image_id]},
        "params": {"operation": "automatic", "options": {}},
    }
    job = server.client.post("/v1/jobs", json=body)
    assert job.status_code == 202
    page.route(
        "**/automatic",
        lambda route: route.fulfill(status=202, body=job.text, headers={"content-type": "application/json"}),
    )
    page.keyboard.press("f")
    wait(page, "segserve.labelling.objects.length > 1 && !segserve.labelling.picture.run")


BOXES_ONLY = """() => segserve.session.set({
  models: segserve.session.models.map((model) => ({ ...model, prompts: ["boxes"] })) })"""


def test_a_model_for_boxes_says_so(page: Any) -> None:
    drop_picture(page)
    page.evaluate(BOXES_ONLY)
    page.wait_for_selector("#boxes-only")
    click(page, 100, 90)
    assert "drag one around the object" in page.inner_text("#status")
    assert page.evaluate(OBJECTS) == []
    drag(page, (50, 35), (150, 145))
    wait_answered(page, 1)
    click(page, 100, 100)  # corrects it
    [[_, _, points, _]] = wait_answered(page, 1)
    assert points == 1
