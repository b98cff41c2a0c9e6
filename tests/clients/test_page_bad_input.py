"""What the page tells where something is bad: a broken picture among 100, a model that is gone, a job that fails, a
quota, a picture and a mask that the service has forgotten overnight. Labels stay, and each state says what to do."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.clients.test_page_browser import (
    OBJECTS,
    as_png,
    click,
    drop_picture,
    picture,
    place,
    wait_answered,
    wait_ready,
)
from tests.serving import Server

pytestmark = pytest.mark.clients

TIMEOUT_MS = 90_000
BROKEN = 41  # of 100


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.set_default_timeout(TIMEOUT_MS)
    opened.goto(server.url)
    opened.wait_for_selector("#model option", state="attached")
    yield opened
    context.close()
    assert failures == []


def wait(page: Any, expression: str) -> None:
    page.wait_for_function(f"() => {expression}")


def encode_small(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((24, 32), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_broken_picture_among_100(page: Any) -> None:
    files = [
        {
            "name": f"{number:03d}.png",
            "mimeType": "image/png",
            "buffer": encode_small(number) if number != BROKEN else encode_small(number)[:40],
        }
        for number in range(100)
    ]
    page.set_input_files("#file", files)
    states = "[...segserve.session.pictureStates.values()]"
    uploaded = "segserve.store.document.listPictures().filter(({ imageId }) => imageId).length"
    wait(page, f"{uploaded} === 99 && {states}.filter(({{ state }}) => state === 'failed').length === 1")
    assert page.locator(".pictures small", has_text="cannot be read").count() == 1
    assert page.evaluate("segserve.labelling.picture.name") == "000.png", "the work goes on"
    page.get_by_role("button", name=f"{BROKEN:03d}.png", exact=False).first.click()
    card = page.locator(".start-card")
    assert f"{BROKEN:03d}.png cannot be opened" in card.inner_text()
    card.get_by_role("button", name="Remove").click()
    wait(page, "segserve.store.document.pictures.size === 99")


def test_a_model_that_is_not_there_any_more(page: Any) -> None:
    page.evaluate("segserve.session.set({ model: 'gone' })")
    page.reload()
    page.wait_for_selector(".problem")
    assert "The model gone is not there" in page.inner_text(".problem")
    assert "default model is used now" in page.inner_text(".problem")
    assert page.input_value("#model") == "starter"
    # It goes while the page is open.
    page.get_by_role("button", name="Dismiss").click()
    drop_picture(page)
    page.keyboard.press("y")
    page.evaluate("segserve.session.set({ model: 'gone too' })")
    click(page, 100, 90)
    page.wait_for_selector(".problem")
    assert "gone too" in page.inner_text(".problem")
    assert page.evaluate(OBJECTS) == [], "the click is taken back"
    page.select_option("#model", label="starter")
    click(page, 100, 90)
    wait_answered(page, 1)


def fail_with(status: int, code: str, detail: str, remedy: str) -> Any:
    body = {
        "type": f"urn:segserve:problem:{code}",
        "title": code,
        "status": status,
        "detail": detail,
        "remedy": remedy,
    }
    return lambda route: route.fulfill(
        status=status, body=json.dumps(body), headers={"content-type": "application/problem+json"}
    )


def test_a_quota_is_told_and_uploads_go_on_when_there_is_room(page: Any) -> None:
    full = fail_with(507, "storage_full", "You have stored 100 of 100 MB.", "Delete images first.")
    page.route("**/v1/images", full)
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": as_png(picture())})
    page.wait_for_selector(".start-card")
    assert "You have stored 100 of 100 MB. Delete images first." in page.inner_text(".start-card")
    page.unroute("**/v1/images")
    page.get_by_role("button", name="Try again").click()
    wait_ready(page)


def test_a_job_that_fails_says_why_and_labels_stay(page: Any) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    before = page.evaluate(OBJECTS)
    job = {
        "job_id": "j",
        "state": "failed",
        "created_at": "2026-11-28T09:00:00+00:00",
        "progress": {"done": 0},
        "error": {"type": "urn:x", "detail": "The model is damaged.", "remedy": "Import it again."},
    }

    def answer(route: Any) -> None:
        if route.request.url.endswith("/events"):
            route.fulfill(
                body=f"id: 1\nevent: end\ndata: {json.dumps(job)}\n\n",
                headers={"content-type": "text/event-stream"},
            )
        elif "/results" in route.request.url:
            route.fulfill(body="", headers={"content-type": "application/x-ndjson"})
        else:
            route.fulfill(json=job)

    page.route("**/v1/jobs/**", answer)
    page.evaluate(
        "segserve.session.set({ models: segserve.session.models.map((one) => ({ ...one, automatic: ['amg'] })) })"
    )
    page.keyboard.press("f")
    page.wait_for_selector(".problem")
    assert "The model is damaged. Import it again." in page.inner_text(".problem")
    assert page.evaluate(OBJECTS) == before
    wait(page, "!segserve.labelling.picture.run")


def test_a_tab_left_open_overnight(page: Any, server: Server) -> None:
    """The service has forgotten the mask and the picture: both are sent again, and nobody notices."""
    drop_picture(page)
    page.keyboard.press("y")
    click(page, 100, 90)
    [[_, first, *_]] = wait_answered(page, 1)
    image_id = page.evaluate("segserve.labelling.picture.imageId")
    page.evaluate(
        "() => segserve.store.amend('objects', segserve.labelling.current.id, { maskId: 'expired' })"
    )
    server.client.delete(f"/v1/images/{image_id}").raise_for_status()
    click(page, 110, 100)
    [[_, area, points, _]] = wait_answered(page, 1)
    assert points == 2
    assert area > first / 2
    assert page.locator(".problem").count() == 0
    assert server.client.get(f"/v1/images/{image_id}").status_code == 200


def test_a_picture_whose_file_is_lost_is_opened_again(page: Any, server: Server) -> None:
    drop_picture(page)
    click(page, 100, 90)
    wait_answered(page, 1)
    page.keyboard.press("Enter")
    image_id = page.evaluate("segserve.labelling.picture.imageId")
    page.evaluate(
        "async () => { segserve.files.held.clear(); segserve.files.read = async () => undefined;"
        " segserve.queue.forget(segserve.session.picture); segserve.queue.advance(); }"
    )
    page.wait_for_selector(".start-card")
    assert "Open the file again; its labels are kept." in page.inner_text(".start-card")
    page.reload()
    wait_ready(page)
    assert [state for state, *_ in page.evaluate(OBJECTS)] == ["done"]
    assert page.evaluate("segserve.labelling.picture.imageId") == image_id
    assert place(page, 0, 0)
