"""The labelling page in Chromium on a service over loopback: hovering, a first visit, panning."""

import io
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image
from tests.docs_blocks import ROOT
from tests.serving import Server

from bench.measuring import REHEARSE, THREADS, Measurement, Skipped, describe_cpu_flags
from bench.models import prepare_model
from bench.page_driver import PageDriver, open_browser
from bench.public_data import DATA

STARTER = "starter"
MOBILE_SAM = "mobile-sam"
HOVER_TARGETS_MS = {STARTER: {50: 60, 99: 150}, MOBILE_SAM: {50: 120}}  # model -> percentile -> upper limit
HOVER_S = 2 if REHEARSE else 15
WARM_UP_S = 1 if REHEARSE else 4  # the page chooses meanwhile where it decodes
EVENT_S = 1 / 60  # between two moves of a mouse
VISITS = 1 if REHEARSE else 7
VISIT_TARGET_S = 3
NUCLEUS = (413, 190)  # a pixel of examples/nuclei.png that is well in a nucleus
LARGE_PX = 20_000  # the edge
OBJECTS = 2000
OBJECT_RADIUS_PX = 150
BLOCK_PX = 500
PAN_S = 2 if REHEARSE else 8
STROKE_PX = 300  # of one drag, on the screen
STROKE_EVENTS = 30
SIDES = ((-1, 0), (0, -1), (1, 0), (0, 1))
PAN_TARGET = 30  # frames a second
# Name, times closer than where all of the picture is seen, drags for each side of the square.
VIEWS = (("zoomed out", 1, 1), ("8 times closer", 8, 4))
# From each move of the pointer to the frame that shows the mask of its place. A message comes after that frame is made.
RECORD_HOVER = """() => {
  const moved = new Map(), ages = (globalThis.hoverAges = []), { hover, marks, session } = segserve;
  const move = hover.move.bind(hover);
  let stamp = 0;
  addEventListener("pointermove", (event) => { stamp = event.timeStamp; }, true);
  hover.move = (point) => { moved.set(String(point), stamp); move(point); };
  marks.canvas.addEventListener("drawn", () => {
    const key = String(session.hovering?.point), since = moved.get(key);
    if (since === undefined) return;
    moved.delete(key);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => ages.push(performance.now() - since);
    port2.postMessage(null);
  });
}"""
RECORD_FRAMES = """() => {
  const frames = (globalThis.frames_ = []);
  const note = (now) => { frames.push(now); globalThis.frameRequest = requestAnimationFrame(note); };
  globalThis.frameRequest = requestAnimationFrame(note);
}"""
STOP_FRAMES = "() => { cancelAnimationFrame(globalThis.frameRequest); return globalThis.frames_; }"


def read_nuclei_picture() -> np.ndarray:
    return np.asarray(Image.open(ROOT / "examples" / "nuclei.png").convert("RGB"))


def encode_variant(number: int) -> bytes:
    """Return the picture of nuclei as PNG, a little brighter, so that no cache of the service knows it."""
    file = io.BytesIO()
    bright = np.minimum(read_nuclei_picture().astype(np.int16) + number, 255).astype(np.uint8)
    Image.fromarray(bright).save(file, "PNG")
    return file.getvalue()


def hover_along(visit: PageDriver, seconds: float, width: int, height: int) -> None:
    """Move the pointer to and fro over the picture, as steadily as a mouse tells of itself."""
    left, top = visit.find_place(0, 0)
    right, bottom = visit.find_place(width, height)
    start = time.perf_counter()
    for step in itertools.count():
        passed = time.perf_counter() - start
        if passed > seconds:
            return
        x = left + (right - left) * (0.5 + 0.45 * np.sin(1.3 * passed))
        y = top + (bottom - top) * (0.5 + 0.45 * np.sin(0.7 * passed))
        visit.page.mouse.move(x, y)
        time.sleep(max(0.0, (step + 1) * EVENT_S - (time.perf_counter() - start)))


def measure_hover(browser: Any, server: Server, model: str) -> Iterator[Measurement]:
    visit = PageDriver(browser, server.url)
    visit.choose_model(model)
    height, width = read_nuclei_picture().shape[:2]
    visit.open_picture("nuclei.png", encode_variant(0))
    visit.page.evaluate(RECORD_HOVER)
    hover_along(visit, WARM_UP_S, width, height)
    visit.page.evaluate("() => { hoverAges.length = 0; }")
    hover_along(visit, HOVER_S, width, height)
    ages = visit.page.evaluate("() => hoverAges")
    place = visit.page.evaluate("(model) => segserve.decoding.choice(model).by", model)
    visit.close()
    assert ages, "no hovered mask was shown"
    label = f"{model}: pointer to mask while hovering"
    for percentile in (50, 95, 99):
        value = float(np.percentile(ages, percentile))
        target = HOVER_TARGETS_MS[model].get(percentile)
        yield Measurement(
            f"{label}, p{percentile}",
            f"{value:.0f} ms",
            f"< {target} ms" if target else "",
            value < target if target else None,
        )
    yield Measurement(f"{label}: masks shown, decoded by", f"{len(ages)} in {HOVER_S} s, the {place}")


def measure_first_visit(browser: Any, server: Server) -> Iterator[Measurement]:
    """Open the address in a fresh profile, choose a picture that the service does not know, click once."""
    seconds = []
    for number in range(1, VISITS + 1):
        picture = encode_variant(number)
        start = time.perf_counter()
        visit = PageDriver(browser, server.url)
        visit.open_picture("nuclei.png", picture)
        visit.click(*NUCLEUS, label=1, count=1)
        visit.wait_painted(*NUCLEUS)
        seconds.append(time.perf_counter() - start)
        visit.close()
    middle, worst = float(np.median(seconds)), max(seconds)
    label = f"{STARTER}: a first visit to its first mask"
    yield Measurement(
        f"{label}, median of {VISITS}", f"{middle:.2f} s", f"< {VISIT_TARGET_S} s", middle < VISIT_TARGET_S
    )
    yield Measurement(f"{label}, slowest", f"{worst:.2f} s")


def write_large_picture(file: Path) -> None:
    """Write a TIFF of flat blocks in many colours. Tiled, it compresses to little."""
    edge = LARGE_PX // BLOCK_PX
    colours = np.random.default_rng(0).integers(20, 200, (edge, edge, 3)).astype(np.uint8)
    image = pyvips.Image.new_from_array(colours).zoom(BLOCK_PX, BLOCK_PX).copy(interpretation="srgb")
    image.tiffsave(str(file), tile=True, compression="deflate", bigtiff=True)


def write_large_labels(file: Path, name: str) -> None:
    """Write a COCO file of wobbly outlines, spread over the picture."""
    rng = np.random.default_rng(1)
    edge = int(np.ceil(np.sqrt(OBJECTS)))
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    annotations = []
    for number in range(OBJECTS):
        centre = (np.array([number % edge, number // edge]) + 0.5) * LARGE_PX / edge
        radius = OBJECT_RADIUS_PX * (1 + 0.2 * np.sin(3 * angles + rng.uniform(0, 6)))
        outline = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        ring = outline.round(1).ravel().tolist()
        annotations.append({"id": number + 1, "image_id": 1, "category_id": 1, "segmentation": [ring]})
    image = {"id": 1, "file_name": name, "width": LARGE_PX, "height": LARGE_PX}
    categories = [{"id": 1, "name": "cell"}]
    file.write_text(json.dumps({"images": [image], "categories": categories, "annotations": annotations}))


def pan_square(visit: PageDriver, strokes: int) -> list[float]:
    """Drag the picture along a square with the middle button, `strokes` drags for each side, until PAN_S has passed.

    Returns the milliseconds between frames.
    """
    page = visit.page
    box = page.locator("#glass").bounding_box()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    sides = itertools.cycle([side for side in SIDES for _ in range(strokes)])
    page.evaluate(RECORD_FRAMES)
    start = time.perf_counter()
    while time.perf_counter() - start < PAN_S:
        way = STROKE_PX * np.array(next(sides))
        page.mouse.move(*(middle - way / 2))
        page.mouse.down(button="middle")
        begun = time.perf_counter()
        for step in range(1, STROKE_EVENTS + 1):
            page.mouse.move(*(middle + way * (step / STROKE_EVENTS - 0.5)))
            time.sleep(max(0.0, step * EVENT_S - (time.perf_counter() - begun)))
        page.mouse.up(button="middle")
    return [float(gap) for gap in np.diff(page.evaluate(STOP_FRAMES))]


def measure_panning(browser: Any, server: Server, folder: Path) -> Iterator[Measurement]:
    picture, labels = folder / "large.tif", folder / "labels.json"
    write_large_picture(picture)
    write_large_labels(labels, picture.name)
    image_id = server.upload(picture)
    visit = PageDriver(browser, f"{server.url}/#image={image_id}&name={picture.name}")
    tiles: list[str] = []
    visit.page.on("request", lambda request: tiles.append(request.url) if "/tiles/" in request.url else None)
    visit.wait_ready()
    visit.import_labels(labels)
    visit.page.wait_for_function("(count) => segserve.labelling.objects.length === count", arg=OBJECTS)
    for label, factor, strokes in VIEWS:
        visit.page.evaluate("(factor) => segserve.viewer.zoom(factor, null, true)", factor)
        visit.page.wait_for_timeout(1000)  # masks and tiles of this view are drawn
        tiles.clear()
        gaps = pan_square(visit, strokes)
        rate = 1000 / float(np.mean(gaps))
        name = f"panning {OBJECTS:,} objects on {LARGE_PX:,} x {LARGE_PX:,}, {label}"
        yield Measurement(name, f"{rate:.0f} frames/s", f"> {PAN_TARGET} frames/s", rate > PAN_TARGET)
        slow, fetched = np.percentile(gaps, 99), len(tiles)
        yield Measurement(f"{name}: p99 of a frame; tiles fetched", f"{slow:.0f} ms; {fetched}")
    visit.close()


def prepare_models(folder: Path) -> tuple[list[str], list[Measurement]]:
    """Return the models that can be had, MobileSAM put into the data folder, and a row on why it cannot."""
    try:
        prepare_model(MOBILE_SAM)
    except Skipped as reason:
        return [STARTER], [Measurement(f"not measured: {reason}", "")]
    (folder / "models").mkdir()
    (folder / "models" / MOBILE_SAM).symlink_to((DATA / "models" / MOBILE_SAM).absolute())
    return [STARTER, MOBILE_SAM], []


def measure() -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        folder = Path(name)
        models, missing = prepare_models(folder)
        threads = {"encode_threads": str(THREADS), "decode_threads": str(THREADS)}
        server = Server(folder, **threads, default_model=STARTER, log_level="error")
        server.wait_ready()
        yield Measurement("Chromium, without a GPU; CPU flags", f"{browser.version}; {describe_cpu_flags()}")
        for model in models:
            yield from measure_hover(browser, server, model)
        yield from measure_first_visit(browser, server)
        yield from measure_panning(browser, server, folder)
        yield from missing
        server.stop()
