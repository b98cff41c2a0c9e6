"""Clicks to an IoU of 0.9 by an annotator who knows the truth: through the labelling page, and by the service alone.

The starter labels nuclei, MobileSAM objects on photographs. Times do not matter here, so a busy machine does no harm.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from sklearn.datasets import load_sample_image
from tests.serving import Server

from bench.measuring import REHEARSE, THREADS, Measurement, Skipped, describe_cpu_flags
from bench.page import MOBILE_SAM, STARTER, prepare_models
from bench.page_driver import PageDriver, open_browser
from bench.public_data import encode_png
from bench.real_weights import read_photograph
from segserve.masks.geometry import bounding_box
from segserve.masks.simulated_prompts import click_deepest_error
from segserve.types import Bool, UInt8

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from nuclei import read_nuclei

OBJECTS = 2 if REHEARSE else 20  # of each kind
MIN_NUCLEUS_PX = 100
TARGET_IOU = 0.9
MAX_CLICKS = 10
# Outlines that were drawn by hand on the photographs of scikit-image and scikit-learn, in pixels of the picture.
PHOTOGRAPH_OBJECTS = Path(__file__).with_name("photograph_objects.json")
SKLEARN_PHOTOGRAPHS = ("flower",)


@dataclass(frozen=True)
class Target:
    """A picture as PNG, and the truth [H, W] of one of its objects."""

    name: str
    png: bytes
    truth: Bool


@dataclass(frozen=True)
class Effort:
    """Clicks that one object took.

    clicks: of the pointer; MAX_CLICKS if the target was not reached.
    keys: candidates picked.
    """

    clicks: int
    is_reached: bool
    keys: int = 0


def choose_nuclei() -> list[Target]:
    """Return nuclei of median size, each of another held-out picture. Raises Skipped without the pictures."""
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        raise Skipped(f"there is no folder {folder}")
    scenes = read_nuclei(folder)[1]
    chosen = []
    for at in np.linspace(0, len(scenes) - 1, OBJECTS).round().astype(int):
        scene = scenes[at]
        labels, areas = np.unique(scene.mask[scene.mask > 0], return_counts=True)
        large = sorted(
            (area, label) for area, label in zip(areas, labels, strict=True) if area >= MIN_NUCLEUS_PX
        )
        if large:
            truth = scene.mask == large[len(large) // 2][1]
            chosen.append(Target(f"{scene.name}.png", encode_png(scene.image), truth))
    return chosen


def read_photograph_objects() -> list[Target]:
    """Return the objects on photographs."""
    targets = []
    for item in json.loads(PHOTOGRAPH_OBJECTS.read_text())[:OBJECTS]:
        pixels = read_picture(item["picture"])
        truth = Image.new("1", (pixels.shape[1], pixels.shape[0]))
        ImageDraw.Draw(truth).polygon([(x, y) for x, y in item["outline"]], fill=1)
        targets.append(Target(f"{item['picture']}, {item['object']}", encode_png(pixels), np.array(truth)))
    return targets


def read_picture(name: str) -> UInt8:
    """Return a photograph [H, W, 3]."""
    if name in SKLEARN_PHOTOGRAPHS:
        return np.array(load_sample_image(f"{name}.jpg"))
    return read_photograph(name=name)


def iou(mask: Bool | None, truth: Bool) -> float:
    return 0.0 if mask is None else float((mask & truth).sum() / (mask | truth).sum())


def places_to_hover(truth: Bool) -> list[tuple[int, int]]:
    """Return the deepest pixel, and those of the object's four quarters: places that look sensible to click."""
    x0, y0, x1, y1 = bounding_box(truth)
    middle_x, middle_y = (x0 + x1) // 2, (y0 + y1) // 2
    nothing = np.zeros_like(truth)
    places = [click_deepest_error(truth, nothing)[:2]]
    for rows in (slice(y0, middle_y), slice(middle_y, y1)):
        for columns in (slice(x0, middle_x), slice(middle_x, x1)):
            quarter = nothing.copy()
            quarter[rows, columns] = truth[rows, columns]
            if quarter.any():
                places.append(click_deepest_error(quarter, nothing)[:2])
    return places


def correct(first: Bool | None, truth: Bool, click: Callable[[int, int, int, int], Bool | None]) -> Effort:
    """Click the deepest error until the target is reached.

    first: the mask after one click. click(x, y, label, count): returns the next one.
    """
    mask, count = first, 1
    while iou(mask, truth) < TARGET_IOU and count < MAX_CLICKS:
        count += 1
        x, y, label = click_deepest_error(truth, np.zeros_like(truth) if mask is None else mask)
        mask = click(x, y, label, count)
    return Effort(count, iou(mask, truth) >= TARGET_IOU)


def label_through_page(browser: Any, server: Server, model: str, target: Target) -> Effort:
    """Hover, click where the mask is best, pick a candidate if one is better, correct. The profile is a fresh one."""
    visit = PageDriver(browser, server.url)
    visit.choose_model(model)
    visit.open_picture("picture.png", target.png)
    truth = target.truth
    hovered = {place: iou(visit.hover(*place), truth) for place in places_to_hover(truth)}
    visit.click(*max(hovered, key=lambda place: hovered[place]), label=1, count=1)
    mask, keys = visit.read_mask(), 0
    candidates = visit.read_candidates()
    best = max(range(len(candidates)), key=lambda index: iou(candidates[index], truth))
    if iou(candidates[best], truth) > iou(mask, truth):
        visit.page.keyboard.press(str(best + 1))
        mask, keys = visit.read_mask(), 1

    def click(x: int, y: int, label: int, count: int) -> Bool | None:
        visit.click(x, y, label, count)
        return visit.read_mask()

    effort = correct(mask, truth, click)
    visit.close()
    return Effort(effort.clicks, effort.is_reached, keys)


def label_through_service(server: Server, model: str, target: Target) -> Effort:
    """Take the first answer as it is. Each correction refines the mask before it, as the page's do."""
    image_id = server.upload(target.png)
    points: list[list[int]] = []
    labels: list[int] = []
    refined: dict[str, str] = {}

    def click(x: int, y: int, label: int, count: int) -> Bool:
        points.append([x, y])
        labels.append(label)
        assert len(points) == count
        prompt = {"points": points, "labels": labels, **refined}
        body = {"image_id": image_id, "model": model, "select": "best", "format": "rle", "prompts": [prompt]}
        answer = server.client.post("/v1/segment", json=body)
        assert answer.status_code == 200, answer.text
        [mask] = answer.json()["results"][0]["masks"]
        refined["mask_id"] = mask["mask_id"]
        decoded: Bool = coco.decode(mask["mask"]).astype(bool)
        return decoded

    x, y, label = click_deepest_error(target.truth, np.zeros_like(target.truth))
    return correct(click(x, y, label, 1), target.truth, click)


def describe(who: str, efforts: list[Effort]) -> Iterator[Measurement]:
    clicks = np.mean([effort.clicks for effort in efforts])
    keys = np.mean([effort.keys for effort in efforts])
    picked = f", and {keys:.2f} candidates picked" if keys else ""
    yield Measurement(f"{who}: clicks to IoU {TARGET_IOU}, mean", f"{clicks:.2f}{picked}")
    reached = sum(effort.is_reached for effort in efforts)
    yield Measurement(f"{who}: reached within {MAX_CLICKS} clicks", f"{reached} of {len(efforts)}")


def compare(
    browser: Any, server: Server, model: str, kind: str, targets: list[Target]
) -> Iterator[Measurement]:
    """Yield rows of both ways, for the same objects, and for how many of them the page takes fewer clicks."""
    page = [label_through_page(browser, server, model, target) for target in targets]
    yield from describe(f"{kind}, {model}, the page", page)
    alone = [label_through_service(server, model, target) for target in targets]
    yield from describe(f"{kind}, {model}, the service alone", alone)
    pairs = list(zip(page, alone, strict=True))
    ours, theirs = np.mean([(one.clicks, other.clicks) for one, other in pairs], axis=0)
    label = f"{kind}, {model}, the page; the service alone"
    yield Measurement(f"{label}: clicks, mean", f"{ours:.2f}; {theirs:.2f}", "fewer", bool(ours < theirs))
    both = [(one.clicks, other.clicks) for one, other in pairs if one.is_reached and other.is_reached]
    if both:
        ours, theirs = np.mean(both, axis=0)
        yield Measurement(f"{label}: the {len(both)} that both reach", f"{ours:.2f}; {theirs:.2f}")
    fewer = sum(one.clicks < other.clicks for one, other in pairs)
    more = sum(one.clicks > other.clicks for one, other in pairs)
    yield Measurement(f"{label}: objects with fewer clicks by the page, with more", f"{fewer}; {more}")
    for target, one, other in zip(targets, page, alone, strict=True):
        print(f"{target.name}: page {one}, service {other}", file=sys.stderr)


def measure() -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as name, open_browser() as browser:
        folder = Path(name)
        models, missing = prepare_models(folder)
        threads = {"encode_threads": str(THREADS), "decode_threads": str(THREADS)}
        server = Server(folder, **threads, default_model=STARTER, log_level="error")
        server.wait_ready()
        yield Measurement("Chromium, without a GPU; CPU flags", f"{browser.version}; {describe_cpu_flags()}")
        try:
            yield from compare(browser, server, STARTER, "nuclei", choose_nuclei())
        except Skipped as reason:
            yield Measurement(f"nuclei are not measured: {reason}", "")
        if MOBILE_SAM in models:
            yield from compare(browser, server, MOBILE_SAM, "photographs", read_photograph_objects())
        yield from missing
        server.stop()
