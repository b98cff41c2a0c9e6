"""The page's time line in a real browser: clips are opened, objects followed, corrected, and there after a reload."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile

from tests.conftest import EXAMPLES
from tests.files import sample_files
from tests.serving import Server

pytestmark = pytest.mark.clients

TIMEOUT_S = 180.0
SLIDE = """(slider, frame) => {
  slider.value = frame;
  for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind));
}"""
NOT_BUSY = "!segserve.labelling.current?.pending && !segserve.session.busy"


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """No script on it may fail. The console may tell of a refused upload, as browsers do, and of nothing else."""
    opened = browser.new_page(viewport={"width": 1300, "height": 850})
    opened.set_default_timeout(1000 * TIMEOUT_S)
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on(
        "console", lambda m: failures.append(m.text) if m.type == "error" and "415" not in m.text else None
    )
    opened.goto(server.url)
    opened.wait_for_selector("#file", state="attached")
    yield opened
    opened.close()
    assert failures == []


def wait_for(page: Any, expression: str) -> None:
    """The page's policy allows no `eval`, by which Playwright would wait."""
    deadline = time.monotonic() + TIMEOUT_S
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.05)


def go_to(page: Any, frame: int) -> None:
    """Move the slider, as dragging it does."""
    page.eval_on_selector("#frame", SLIDE, frame)
    wait_for(page, f"segserve.timeline.frame === {frame} && segserve.timeline.scrubbed === null")
    wait_for(
        page, "Boolean(segserve.viewer.transform) && segserve.viewer.picture?.id === segserve.session.picture"
    )
    wait_for(page, "segserve.isReady()")


def mark(page: Any, x: float, y: float) -> None:
    """Click on an object, and accept it."""
    left, top = page.evaluate("place => segserve.viewer.toScreen(place)", [x, y])
    glass = page.locator("#glass").bounding_box()
    page.mouse.click(glass["x"] + left, glass["y"] + top)
    wait_for(page, f"segserve.labelling.current?.area > 0 && {NOT_BUSY}")
    page.keyboard.press("Enter")
    wait_for(page, "!segserve.labelling.current")


def wait_until_followed(page: Any) -> None:
    page.wait_for_selector("#progress")
    wait_for(page, "!segserve.timeline.propagation.isRunning")
    wait_for(page, "!document.querySelector('#stop')")


def areas(page: Any) -> list[int]:
    found: list[int] = page.evaluate("segserve.labelling.objects.map(({ area }) => area)")
    return found


def test_cells_are_followed_corrected_and_kept(page: Any) -> None:
    page.set_input_files("#file", EXAMPLES / "cells.tif")
    page.click("#open-stack")
    page.wait_for_selector("#frame-number")
    assert page.inner_text("#frame-number") == "Frame 1 of 20"
    go_to(page, 5)
    mark(page, 55, 57)
    mark(page, 112, 105)
    assert page.is_enabled("#follow")
    page.click("#follow")
    wait_until_followed(page)
    assert page.is_disabled("#follow"), "there is nothing new to send"
    page.click("#next-frame")
    wait_for(page, "segserve.labelling.objects.length === 2")
    assert min(areas(page)) > 300

    # A frame in the middle is corrected, and a new object is marked there; only these are sent.
    go_to(page, 8)
    before = page.evaluate("segserve.timeline.propagation.lines")
    mark(page, 165, 45)
    page.click("#follow")
    wait_until_followed(page)
    more = page.evaluate("segserve.timeline.propagation.lines") - before
    assert 0 < more <= 20, "what is before it was not made again"
    page.click("#next-frame")
    wait_for(page, "segserve.labelling.objects.length === 3")
    page.check("#reviewed")
    kept = areas(page)

    page.reload()
    wait_until_followed(page)
    assert page.inner_text("#frame-number") == "Frame 10 of 20"
    assert areas(page) == kept
    assert page.is_checked("#reviewed")
    wait_for(page, "segserve.timeline.states.filter(({ prompted }) => prompted).length === 2")
    with page.expect_download() as download:
        page.select_option("#download-results", "tiff_stack")
    stack = tifffile.imread(download.value.path())
    assert stack.shape == (20, 160, 192)
    assert set(np.unique(stack)) == {0, 1, 2, 3}


def test_a_volume_is_sliced_along_three_axes(page: Any, tmp_path: Path) -> None:
    stack = tifffile.imread(EXAMPLES / "cells.tif")
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stack.T.astype(np.int16), np.eye(4)), path)
    page.set_input_files("#file", path)
    page.wait_for_selector("#axis")
    assert page.inner_text("#frame-number") == "Slice 11 of 20"
    for axis, shown in (("1", "Slice 81 of 160"), ("2", "Slice 97 of 192"), ("0", "Slice 11 of 20")):
        page.select_option("#axis", axis)
        wait_for(page, f"document.querySelector('#frame-number').textContent === '{shown}'")
        wait_for(page, "Boolean(segserve.viewer.transform)")
    sizes = page.evaluate(
        "segserve.store.document.listPictures().map(({ width, height }) => [width, height])"
    )
    assert sorted(sizes) == [[160, 20], [192, 20], [192, 160]]


def test_what_cannot_be_read_is_told(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", sample_files.write_video(tmp_path / "clip.mp4"))
    page.wait_for_selector("#frame-number")
    assert page.inner_text("#frame-number") == "Frame 1 of 20"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    page.set_input_files("#file", broken)
    page.wait_for_selector(".problem")
    assert page.inner_text("#frame-number") == "Frame 1 of 20", "the open clip stays"
