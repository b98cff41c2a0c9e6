"""The labelling page in Chromium, driven as an annotator does: by its pointer, its keys and its file inputs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from bench.measuring import Skipped
from segserve.types import Bool

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
VIEWPORT = {"width": 1280, "height": 800}
TIMEOUT_MS = 60_000
# The open picture is shown, and encoded for the model that is chosen.
READY = """() => {
  const { picture, model } = segserve.session;
  return segserve.viewer.picture?.id === picture && segserve.viewer.transform && segserve.isReady()
    && segserve.queue.encoded.get(picture) === model;
}"""
# The current object has `count` points, and the answer to the last of them.
ANSWERED = """(count) => {
  const { current } = segserve.labelling;
  return current?.prompt?.points.length === count && !current.pending;
}"""
# The canvas of masks has colour at a pixel of the picture.
PAINTED = """([x, y]) => {
  const { canvas, drawn } = segserve.masks;
  if (!drawn || !segserve.labelling.current) return false;
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.drawImage(canvas, -Math.floor((x - drawn.x) * canvas.width / drawn.width),
    -Math.floor((y - drawn.y) * canvas.height / drawn.height));
  return pen.getImageData(0, 0, 1, 1).data[3] > 0;
}"""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start Chromium, headless. Raises Skipped where it or playwright is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Skipped("playwright is not installed") from None
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise Skipped("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


class PageDriver:
    """`PageDriver` acts on one visit, which has a profile of its own. Places are pixels (x, y) of the picture."""

    def __init__(self, browser: Any, address: str) -> None:
        self._context = browser.new_context(viewport=VIEWPORT)
        self.page = self._context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.goto(address)
        self.page.wait_for_selector("#model option", state="attached")

    def close(self) -> None:
        self._context.close()

    def choose_model(self, name: str) -> None:
        self.page.select_option("#model", label=name)

    def open_picture(self, name: str, png: bytes) -> None:
        """Choose a file, and wait until it is shown and encoded."""
        before = self.page.evaluate("() => segserve.session.picture")
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": png})
        self.page.wait_for_function("(before) => segserve.session.picture !== before", arg=before)
        self.wait_ready()

    def import_labels(self, file: Path) -> None:
        self.page.set_input_files("#labels", file)

    def wait_ready(self) -> None:
        self.page.wait_for_function(READY)

    def wait_painted(self, x: float, y: float) -> None:
        """Wait until a mask of the current object is on the screen at this place."""
        self.page.wait_for_function(PAINTED, arg=[x, y], polling="raf")

    def find_place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the picture is on the screen."""
        left, top = self.page.evaluate(
            """([x, y]) => {
              const [left, top] = segserve.viewer.toScreen([x, y]);
              const frame = segserve.pointer.element.getBoundingClientRect();
              return [frame.left + left, frame.top + top];
            }""",
            [x, y],
        )
        return left, top

    def hover(self, x: float, y: float) -> Bool | None:
        """Move the pointer, and return the mask [H, W] that is shown once the service has answered, if there is one."""
        self.page.mouse.move(*self.find_place(x, y))
        self.page.wait_for_function("() => !segserve.hover.busy")
        return decode_mask(self.page.evaluate("() => segserve.session.hovering?.mask ?? null"))

    def click(self, x: float, y: float, label: int, count: int) -> None:
        """Click, and wait for the answer. label: 1 on the object, 0 off it. count: of its points, with this one."""
        if not label:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*self.find_place(x, y))
        if not label:
            self.page.keyboard.up("Shift")
        self.page.wait_for_function(ANSWERED, arg=count)

    def read_mask(self) -> Bool | None:
        """Return the mask [H, W] of the current object."""
        return decode_mask(self.page.evaluate("() => segserve.labelling.current.mask"))

    def read_candidates(self) -> list[Bool]:
        """Wait for the candidates of the current object, and return their masks [H, W]."""
        self.page.wait_for_function("() => segserve.labelling.current.candidates.length")
        masks = self.page.evaluate("() => segserve.labelling.current.candidates.map(({ mask }) => mask)")
        return [coco.decode(mask).astype(bool) for mask in masks]


def decode_mask(mask: dict[str, Any] | None) -> Bool | None:
    """Decode the page's form of a mask, which is COCO's."""
    return None if mask is None else np.asarray(coco.decode(mask)).astype(bool)
