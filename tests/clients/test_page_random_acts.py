"""Random acts on the page in a real browser: what it exports is its document, and its history leads back and forth."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from tests.clients import test_page_browser as page_tests
from tests.serving import Server

pytestmark = pytest.mark.clients

NUMBER_OF_ACTS = 200
SEED = 20261128
SIZES = {"first.png": (400, 300), "second.png": (260, 380)}  # width, height
IDLE = """() => !segserve.session.busy
  && ![...segserve.store.document.objects.values()].some(({ pending }) => pending)"""
SHOWN = """() => segserve.viewer.transform && segserve.viewer.picture?.id === segserve.session.picture"""
# All that an export is made of, and what it leaves out.
DOCUMENT = """() => {
  const { classes, pictures, objects } = segserve.store.document;
  return [...objects.values()].sort((a, b) => a.order - b.order).map((object) => {
    const { id, state, mask, area, box, score } = object;
    const [name, picture] = [classes.get(object.class).name, pictures.get(object.picture).name];
    return { id, state, mask, area, box, score, class: name, picture };
  });
}"""


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """Two pictures are open. The console tells of no error, and the service refuses nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on("console", lambda m: failures.append(m.text) if m.type == "error" else None)
    opened.on("response", lambda r: failures.append(f"{r.status} {r.url}") if r.status >= 400 else None)

    def note_failed(request: Any) -> None:
        # The browser drops requests of a page that is left, and tiles of a picture that is closed.
        if request.failure != "net::ERR_ABORTED":
            failures.append(f"{request.failure} {request.url}")

    opened.on("requestfailed", note_failed)
    opened.set_default_timeout(60_000)
    opened.goto(server.url)
    opened.wait_for_selector("#model option", state="attached")
    files = [
        {"name": name, "mimeType": "image/png", "buffer": page_tests.as_png(draw_ellipses(size))}
        for name, size in SIZES.items()
    ]
    opened.set_input_files("#file", files)
    page_tests.wait_ready(opened)
    yield opened
    context.close()
    assert failures == []


def draw_ellipses(size: tuple[int, int]) -> Image.Image:
    """Six bright ellipses of several sizes, on a grid of 2 x 3."""
    width, height = size
    drawn = Image.new("L", size, 20)
    pen = ImageDraw.Draw(drawn)
    for number in range(6):
        x, y = (2 * (number % 3) + 1) * width / 6, (2 * (number // 3) + 1) * height / 4
        a, b = width / (9 + number), height / (7 + number)
        pen.ellipse((x - a, y - b, x + a, y + b), fill=150 + 15 * number)
    return drawn


class Annotator:
    """Does random acts, as hands would: by the pointer and by keys."""

    def __init__(self, page: Any, seed: int) -> None:
        self.page = page
        self.random = random.Random(seed)
        self.done: list[str] = []  # for the message of a failure
        self.acts: dict[Callable[[], None], int] = {
            self.click: 40,
            self.click_off: 14,
            self.drag_box: 12,
            self.drag_boxes: 4,
            self.brush: 8,
            self.erase: 8,
            self.select: 12,
            self.reload: 2,
            self.find_everything: 2,
            self.add_class: 2,
            **{self.key(*keys): weight for keys, weight in KEYS.items()},
        }

    def key(self, *keys: str) -> Callable[[], None]:
        def press() -> None:
            for key in keys:
                self.page.keyboard.press(key)

        press.__name__ = " ".join(keys)
        return press

    def run(self, number: int) -> None:
        # Each kind of act comes at least once.
        chosen = [*self.acts, *self.random.choices(list(self.acts), list(self.acts.values()), k=number)][
            :number
        ]
        self.random.shuffle(chosen)
        for act in chosen:
            self.done.append(act.__name__)
            self.page.wait_for_function(SHOWN)
            act()
            # An act may come before the answer to the one before.
            if self.random.random() < 0.6:
                self.wait_idle()
        self.wait_idle()

    def wait_idle(self) -> None:
        self.page.wait_for_function(IDLE)

    def pixel(self) -> tuple[float, float]:
        width, height = self.page.evaluate(
            "() => [segserve.labelling.picture.width, segserve.labelling.picture.height]"
        )
        return self.random.uniform(2, width - 2), self.random.uniform(2, height - 2)

    def drag(self) -> None:
        page_tests.drag(self.page, self.pixel(), self.pixel())

    def click(self) -> None:
        self.page.keyboard.press("s")
        page_tests.click(self.page, *self.pixel())

    def click_off(self) -> None:
        self.page.keyboard.press("s")
        page_tests.click(self.page, *self.pixel(), button="right")

    def drag_box(self) -> None:
        self.page.keyboard.press("s")
        self.drag()

    def drag_boxes(self) -> None:
        self.page.keyboard.press("m")
        self.drag()

    def brush(self) -> None:
        self.page.keyboard.press("b")
        self.drag()

    def erase(self) -> None:
        self.page.keyboard.press("e")
        self.drag()

    def select(self) -> None:
        self.page.keyboard.press("v")
        self.drag()

    def find_everything(self) -> None:
        self.page.keyboard.press("f")
        self.wait_idle()

    def add_class(self) -> None:
        self.page.get_by_role("button", name="Add a class").click()

    def reload(self) -> None:
        self.wait_idle()
        before = self.page.evaluate(DOCUMENT)
        self.page.evaluate("() => segserve.database.writing")
        self.page.reload()
        self.page.wait_for_selector("#model option", state="attached")
        self.wait_idle()
        assert self.page.evaluate(DOCUMENT) == before, self.done


# Keys of acts on what is current or selected, with how often each comes.
KEYS: dict[tuple[str, ...], int] = {
    ("Enter",): 28,
    ("1",): 3,
    ("2",): 4,
    ("3",): 4,
    ("r",): 4,
    ("Delete",): 5,
    ("p",): 5,
    ("Control+a", "u"): 2,
    ("u",): 4,
    ("c",): 3,
    ("i",): 3,
    ("j",): 4,
    ("Escape",): 4,
    ("Control+d",): 2,
    ("Alt+1",): 4,
    ("Alt+2",): 6,
    ("Control+z",): 16,
    ("Control+z", "Control+z", "Control+z"): 5,
    ("Control+Shift+z",): 10,
    ("d",): 5,
    ("a",): 5,
}


def press_until(page: Any, key: str, is_done: str) -> int:
    """Press a key until the expression holds. Returns how often."""
    for presses in range(NUMBER_OF_ACTS * 4):
        if page.evaluate(is_done):
            return presses
        page.keyboard.press(key)
    raise AssertionError(f"{is_done} does not hold after {presses} times {key}")


def test_the_export_is_the_document_and_history_leads_back_and_forth(page: Any) -> None:
    annotator = Annotator(page, SEED)
    annotator.run(NUMBER_OF_ACTS)
    # A draft is there in any case: an export leaves it out.
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    annotator.click()
    annotator.wait_idle()
    assert page.evaluate("() => segserve.labelling.draft?.area > 0"), annotator.done
    accepted = [one for one in page.evaluate(DOCUMENT) if one["state"] == "done" and one["area"]]
    assert accepted, annotator.done
    exported = page_tests.export_coco(page)
    check_export(exported, accepted)

    # The click above is the latest change: nothing can be done again that leads past it.
    latest = page.evaluate(DOCUMENT)
    assert not page.evaluate("() => segserve.store.canRedo")
    undone = press_until(page, "Control+z", "() => !segserve.store.canUndo")
    assert page.evaluate(DOCUMENT) == []
    redone = press_until(page, "Control+Shift+z", "() => !segserve.store.canRedo")
    annotator.wait_idle()
    assert undone == redone > NUMBER_OF_ACTS // 5
    assert page.evaluate(DOCUMENT) == latest, annotator.done
    assert page_tests.export_coco(page) == exported, annotator.done

    annotator.reload()
    assert page_tests.export_coco(page) == exported, annotator.done


def check_export(exported: dict[str, Any], accepted: list[dict[str, Any]]) -> None:
    """Compare an export with the accepted objects of the document, and both with what pycocotools decodes."""
    images = {image["id"]: image["file_name"] for image in exported["images"]}
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in exported["images"]}
    names = {category["id"]: category["name"] for category in exported["categories"]}
    assert sizes == SIZES

    def as_line(picture: str, name: str, mask: dict[str, Any]) -> str:
        return json.dumps([picture, name, mask["size"], mask["counts"]])

    assert sorted(
        as_line(images[one["image_id"]], names[one["category_id"]], one["segmentation"])
        for one in exported["annotations"]
    ) == sorted(as_line(one["picture"], one["class"], one["mask"]) for one in accepted)
    for one in exported["annotations"]:
        width, height = sizes[images[one["image_id"]]]
        mask = coco.decode(one["segmentation"]).astype(bool)
        assert mask.shape == (height, width)
        assert one["area"] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert one["bbox"] == [
            columns[0],
            rows[0],
            columns[-1] - columns[0] + 1,
            rows[-1] - rows[0] + 1,
        ]
