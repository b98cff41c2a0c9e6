"""An annotator who knows the truth: clicks to an IoU of 0.9, through the page and through the service alone."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco
from tests.serving import Server

from bench.measuring import REHEARSE, Measurement, Skipped
from bench.page_driver import PageDriver
from bench.public_data import encode_png
from segserve.masks.geometry import bounding_box
from segserve.masks.simulated_prompts import click_deepest_error
from segserve.types import Bool

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from nuclei import read_nuclei

NUCLEI = 2 if REHEARSE else 20
MIN_NUCLEUS_PX = 100
TARGET_IOU = 0.9
MAX_CLICKS = 10


@dataclass(frozen=True)
class Nucleus:
    """A held-out picture as PNG, and the truth [H, W] of one of its nuclei."""

    name: str
    png: bytes
    truth: Bool


@dataclass(frozen=True)
class Effort:
    """What one nucleus took.

    clicks: of the pointer; MAX_CLICKS if the target was not reached.
    keys: candidates picked.
    """

    clicks: int
    is_reached: bool
    keys: int = 0


def choose_nuclei() -> list[Nucleus]:
    """Return nuclei of median size, each of another held-out picture. Raises Skipped without the pictures."""
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        raise Skipped(f"there is no folder {folder}")
    scenes = read_nuclei(folder)[1]
    chosen = []
    for at in np.linspace(0, len(scenes) - 1, NUCLEI).round().astype(int):
        scene = scenes[at]
        labels, areas = np.unique(scene.mask[scene.mask > 0], return_counts=True)
        large = sorted(
            (area, label) for area, label in zip(areas, labels, strict=True) if area >= MIN_NUCLEUS_PX
        )
        if large:
            truth = scene.mask == large[len(large) // 2][1]
            chosen.append(Nucleus(f"{scene.name}.png", encode_png(scene.image), truth))
    return chosen


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


def label_through_page(visit: PageDriver, nucleus: Nucleus) -> Effort:
    truth = nucleus.truth
    visit.open_picture(nucleus.name, nucleus.png)
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
    return Effort(effort.clicks, effort.is_reached, keys)


def label_through_service(server: Server, model: str, nucleus: Nucleus) -> Effort:
    """Take the first answer as it is. Each correction refines the mask before it, as the page's do."""
    image_id = server.upload(nucleus.png)
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

    x, y, label = click_deepest_error(nucleus.truth, np.zeros_like(nucleus.truth))
    return correct(click(x, y, label, 1), nucleus.truth, click)


def describe(who: str, efforts: list[Effort]) -> Iterator[Measurement]:
    clicks = np.mean([effort.clicks for effort in efforts])
    keys = np.mean([effort.keys for effort in efforts])
    picked = f", and {keys:.2f} candidates picked" if keys else ""
    yield Measurement(f"{who}: clicks to IoU {TARGET_IOU}, mean", f"{clicks:.2f}{picked}")
    reached = sum(effort.is_reached for effort in efforts)
    yield Measurement(f"{who}: reached within {MAX_CLICKS} clicks", f"{reached} of {len(efforts)}")


def measure_clicks(server: Server, visit: PageDriver, model: str) -> Iterator[Measurement]:
    """Yield rows of both ways, for the same nuclei. The model is chosen on the page already."""
    nuclei = choose_nuclei()
    yield from describe(f"{model}, the page", [label_through_page(visit, nucleus) for nucleus in nuclei])
    yield from describe(
        f"{model}, the service alone", [label_through_service(server, model, nucleus) for nucleus in nuclei]
    )
