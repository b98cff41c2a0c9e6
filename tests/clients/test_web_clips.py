"""The page's time line in a real browser: clips are opened, objects followed, corrected, and there after a reload."""

import re
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
        "console",
        lambda m: failures.append(m.text) if m.type == "error" and not re.search("415|422", m.text) else None,
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


def write_scan(path: Path) -> Path:
    """Write the cells as a volume of 20 slices."""
    stack = tifffile.imread(EXAMPLES / "cells.tif")
    nibabel.save(nibabel.Nifti1Image(stack.T.astype(np.int16), np.eye(4)), path)
    return path


def test_labels_of_another_program_are_corrected_on_the_slices_of_a_volume(page: Any, tmp_path: Path) -> None:
    labels = np.zeros((192, 160, 20), np.int16)
    labels[45:80, 40:70, 3:9] = 7
    labels[10:30, 10:30, 10] = 9
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    page.set_input_files("#file", write_scan(tmp_path / "scan.nii.gz"))
    page.wait_for_selector("#axis")
    page.set_input_files("#labels", tmp_path / "labels.nii.gz")
    wait_for(page, "/7 objects on 7 pictures/.test(segserve.session.status)")
    go_to(page, 5)
    assert areas(page) == [35 * 30]
    assert page.evaluate("segserve.labelling.objects[0].track") == "7"
    # A click refines what was imported.
    page.click("#objects [role=option]")
    page.keyboard.press("r")
    left, top = page.evaluate("segserve.viewer.toScreen([55, 57])")
    glass = page.locator("#glass").bounding_box()
    page.mouse.click(glass["x"] + left, glass["y"] + top)
    wait_for(page, f"segserve.labelling.current?.prompt && {NOT_BUSY}")
    page.keyboard.press("Enter")
    assert areas(page) != [35 * 30]

    nibabel.save(nibabel.Nifti1Image(labels[:-2], np.eye(4)), tmp_path / "other.nii")
    before = page.evaluate("segserve.store.document.objects.size")
    page.set_input_files("#labels", tmp_path / "other.nii")
    page.wait_for_selector(".problem")
    assert "not on the grid" in page.inner_text(".problem")
    assert page.evaluate("segserve.store.document.objects.size") == before


def test_frames_by_keys_and_the_window_of_a_volume(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", write_scan(tmp_path / "scan.nii.gz"))
    page.wait_for_selector("#axis")
    wait_for(page, "segserve.isReady()")
    for key, shown in ((">", 12), ("Control+ArrowLeft", 11), ("Home", 1), ("<", 1), ("End", 20)):
        page.keyboard.press(key)
        wait_for(page, f"document.querySelector('#frame-number').textContent === 'Slice {shown} of 20'")
    # A key that is held shows frames in passing, and opens the last of them.
    opened = page.evaluate("segserve.store.document.pictures.size")
    page.keyboard.down("Control")
    for _ in range(6):
        page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    page.keyboard.up("Control")
    wait_for(page, "segserve.timeline.scrubbed === null && segserve.timeline.frame === 13")
    assert page.evaluate("segserve.store.document.pictures.size") <= opened + 2
    page.keyboard.press("q")
    wait_for(page, "document.querySelector('#reviewed').checked")

    go_to(page, 10)
    image_id = page.evaluate("segserve.labelling.picture.imageId")
    page.evaluate("segserve.viewer.zoom(4, [200, 150], true)")
    scale = page.evaluate("segserve.viewer.scale")
    page.select_option("#window", "brain")
    shown = f"segserve.isReady() && segserve.labelling.picture.imageId !== '{image_id}' && segserve.viewer.transform"
    wait_for(page, f"Boolean({shown})")
    assert [page.input_value("#window-low"), page.input_value("#window-high")] == ["0", "80"]
    assert abs(page.evaluate("segserve.viewer.scale") / scale - 1) < 0.02, "the view stays"
    for _ in range(10):  # the message about the picture may come after it
        page.fill("#window-high", "-5")
        page.keyboard.press("Tab")
        if "lower" in page.inner_text("#status"):
            break
        page.wait_for_timeout(500)
    assert "lower" in page.inner_text("#status")
    assert page.evaluate("segserve.timeline.clip.window") == [0, 80]
    mark(page, 55, 57)
    jobs: list[Any] = []
    page.on("request", lambda r: jobs.append(r.post_data_json) if r.url.endswith("/v1/jobs") else None)
    page.click("#follow")
    wait_until_followed(page)
    assert jobs[0]["params"]["window"] == [0, 80]


def test_following_is_stopped_and_goes_on(page: Any, tmp_path: Path) -> None:
    stack = np.concatenate([tifffile.imread(EXAMPLES / "cells.tif")[:10]] * 40)
    tifffile.imwrite(tmp_path / "long.tif", stack, photometric="minisblack")
    page.set_input_files("#file", tmp_path / "long.tif")
    page.click("#open-stack")
    page.wait_for_selector("#frame-number")
    go_to(page, 5)
    mark(page, 55, 57)
    page.click("#follow")
    page.click("#stop")
    wait_until_followed(page)
    assert page.evaluate("segserve.timeline.propagation.job.state") == "cancelled"
    assert not page.is_visible(".timeline .bad")
    before = page.evaluate("segserve.timeline.propagation.results.size")
    assert before < len(stack)
    page.click("#retry")
    wait_for(page, f"segserve.timeline.propagation.results.size > {before}")
    page.click("#stop")
    wait_until_followed(page)
    assert page.evaluate("segserve.timeline.propagation.results.size") < len(stack)


@pytest.mark.parametrize("width", [1200, 390])
def test_all_of_the_time_line_is_within_the_window(page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    page.set_input_files("#file", write_scan(tmp_path / "scan.nii.gz"))
    page.wait_for_selector("#axis")
    wait_for(page, "segserve.isReady()")
    mark(page, 55, 57)
    page.click("#follow")
    wait_until_followed(page)
    page.wait_for_selector("#download-results")
    outside = page.evaluate(
        "[...document.querySelectorAll('.timeline button, .timeline select, .timeline input')].filter((one) => {"
        "const { left, right, width } = one.getBoundingClientRect();"
        "return width && (left < 0 || right > innerWidth + 1); }).map(({ id }) => id)"
    )
    assert outside == []
    assert page.evaluate("[scrollX, scrollY, document.documentElement.scrollWidth]") == [0, 0, width]

    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page.evaluate(
        "segserve.session.set({ sheet: 'objects' }); document.querySelector('details.options').open = true"
    )
    page.wait_for_selector("#decode")
    found = axe.run(page).response["violations"]
    assert [
        f"{rule['id']}: {rule['nodes'][0]['html']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ] == []


def test_what_cannot_be_read_is_told(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", sample_files.write_video(tmp_path / "clip.mp4"))
    page.wait_for_selector("#frame-number")
    assert page.inner_text("#frame-number") == "Frame 1 of 20"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    page.set_input_files("#file", broken)
    page.wait_for_selector(".problem")
    assert page.inner_text("#frame-number") == "Frame 1 of 20", "the open clip stays"
