"""The starter's scores on its validation images, through the service's own encode and decode path.

Needs the nuclei data: BENCH_NUCLEI names the folder. `training/publish.py` scores the same in torch.
"""

import os
import sys
from pathlib import Path

import numpy as np

from bench.common import THREADS, Line
from segserve.decode.segment import decode
from segserve.encode.prepared import PreparedImage
from segserve.encode.preprocess import apply
from segserve.masks.crop import to_mask
from segserve.models.model import Model
from segserve.models.registry import BUILT_IN, Registry, Runtimes
from segserve.models.runtime import RuntimeOptions
from segserve.store.cache import pack, unpack
from segserve.timing import Timings
from segserve.train.prompts import bounding_box, corrective_click, deepest_pixel
from segserve.types import Box, Prompt, Select, Size

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from scenes import read_nuclei

TARGETS = {"click": 0.75, "box": 0.80, "corrected": 0.82}
SMALLEST = 30


def measure() -> list[Line]:
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        return [Line(f"skipped: there is no folder {folder}", "")]
    options = RuntimeOptions(threads=THREADS)
    model = Registry([BUILT_IN], Runtimes(options, options), 1 << 40).load("starter", Model)
    _, validation = read_nuclei(folder)
    scores: dict[str, list[float]] = {name: [] for name in TARGETS}

    def ask(image: PreparedImage, prompt: Prompt) -> tuple[np.ndarray, np.ndarray]:
        best = decode(model, image, prompt, None, Select.BEST, Timings())[0]
        return to_mask(best.crop), best.logits

    for scene in validation:
        embedding = unpack(pack(model.encode(apply(scene.image, model.preprocess))))
        image = PreparedImage(Size(*scene.mask.shape), embedding, model.prepare(embedding, None))
        counts = np.bincount(scene.mask.ravel())
        for truth in (scene.mask == i for i in range(1, len(counts)) if counts[i] >= SMALLEST):
            for name, value in judge_object(lambda p, image=image: ask(image, p), truth).items():
                scores[name].append(value)
    count = len(scores["click"])
    lines = [Line(f"{len(validation)} validation images, nuclei of {SMALLEST} px or more", str(count))]
    for name, target in TARGETS.items():
        mean = float(np.mean(scores[name]))
        lines.append(Line(f"mean IoU, {name}", f"{mean:.3f}", f">= {target}", mean >= target))
    return lines


def judge_object(ask, truth: np.ndarray) -> dict[str, float]:  # type: ignore[no-untyped-def]
    def iou(found: np.ndarray) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    clicks = [(*deepest_pixel(truth), 1)]

    def prompt(logits: np.ndarray | None) -> Prompt:
        array = np.array(clicks, np.float32)
        return Prompt(array[:, :2], array[:, 2].astype(np.int64), logits=logits)

    found, logits = ask(prompt(None))
    scores = {"click": iou(found), "box": iou(ask(Prompt(box=Box(*bounding_box(truth))))[0])}
    for _ in range(3):
        clicks.append(corrective_click(truth, found, None))
        found, logits = ask(prompt(logits))
    return {**scores, "corrected": iou(found)}
