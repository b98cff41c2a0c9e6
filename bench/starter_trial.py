"""A trial of a new starter beside the one that ships: what its next version must show.

BENCH_STARTER is the folder of the trial's bundle, as `training/publish.py --to` writes it. BENCH_NUCLEI is the folder
of nuclei, BENCH_DATA keeps the packages with public pictures.

BENCH_STARTER_ON=tuning scores the images left aside for tuning alone, so that a run can be looked at while it trains,
and the pictures that judge it at the end stay unseen. BENCH_REHEARSE=1 takes four of them.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tests.serving import Server

from bench.measuring import REHEARSE, THREADS, Measurement, Skipped, measure_interleaved_ms
from bench.public_data import NAPARI, STARDIST, encode_tiff, read_h_and_e, read_tiff
from bench.results import label_automatically, list_objects
from bench.starter import BOX, CLICKS, MIN_NUCLEUS_PX, score_ais
from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.evaluate.iterative_prompting import average_protocol_scores, prompt_objects
from segserve.evaluate.object_matching import AT_50, match_label_maps, mean_segmentation_accuracy
from segserve.masks.geometry import bounding_box, deepest_pixel, iou
from segserve.models.bundle import Bundle
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.types import Bool, Candidate, Prompt, Select, Size, UInt8

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from nuclei import read_nuclei, split_tuning

COLUMNS = ("what", "ships", "trial", "target", "met")
SLICES = (24, 34, 44)  # of napari's volume
DISC_RADIUS_PX, DISC_POINTS = 80, (16, 64, 500)
CROP_MARGINS_PX = (5, 20, 60)
CROPPED_NUCLEI = 40
MAX_BUNDLE_MB, MAX_ENCODE_RATIO, MAX_CLICK_RATIO = 24.0, 1.5, 1.3
TIMED_INPUT_PX = 512
REHEARSED_IMAGES = 4

Values = dict[str, float]
TARGETS: Values = {
    "nuclei, click": 0.80,
    "nuclei, box": 0.86,
    "nuclei, three corrections": 0.88,
    "nuclei, AIS mSA": 0.62,
    "nuclei, AIS SA50": 0.82,
    "stardist 2D, click": 0.84,
    "stardist 2D, AIS mSA": 0.55,
    "napari slices 24, 34, 44, AIS mSA": 0.65,
    "H&E, AIS SA50": 0.35,
    **{f"disc, {count} points": 0.85 for count in DISC_POINTS},
    **{f"crops with {margin} px round a nucleus, click": 0.80 for margin in CROP_MARGINS_PX},
}

LIMITS: Values = {"nuclei, mean number of parts of a mask": 1.1}


@dataclass(frozen=True)
class Row(Measurement):
    """A row with the value of the starter that ships; `value` is the trial's."""

    ships: str = ""

    def to_row(self) -> str:
        mark = "" if self.met is None else ("yes" if self.met else "**no**")
        return f"| {self.label} | {self.ships} | {self.value} | {self.target} | {mark} |"


class Clicker:
    """`Clicker` answers prompts on one image by a model, as the service does. raw: the model's own masks.

    parts: how many parts each mask had.
    """

    def __init__(self, model: PromptableModel, image: UInt8) -> None:
        self.model, self.parts = model, list[int]()
        encoded = model.encode(preprocess_image(image, model.preprocess))
        self.embedding = unpack_embedding(pack_embedding(encoded))
        self.image = PreparedImage(
            Size(*image.shape[:2]), self.embedding, model.prepare(self.embedding, None)
        )

    def predict(self, prompt: Prompt, *, raw: bool) -> Candidate:
        candidate = decode_prompt(self.model, self.image, prompt, None, Select.BEST, Timings(), raw=raw)[0]
        self.parts.append(count_parts(candidate.crop.pixels))
        return candidate

    def click(self, points: NDArray[Any], *, raw: bool) -> Bool:
        """Return the mask [H, W] of positive points [N, 2] (x, y)."""
        labels = np.ones(len(points), np.int64)
        candidate = self.predict(Prompt(np.asarray(points, np.float32), labels), raw=raw)
        mask = np.zeros((self.image.size.height, self.image.size.width), np.bool_)
        crop = candidate.crop
        height, width = crop.pixels.shape
        mask[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
        return mask


def measure() -> list[Measurement]:
    nuclei = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if "BENCH_STARTER" not in os.environ or not nuclei.exists():
        raise Skipped("BENCH_STARTER names no bundle, or BENCH_NUCLEI no folder of nuclei")
    folders = {"ships": BUILT_IN_MODELS / "starter", "trial": Path(os.environ["BENCH_STARTER"])}
    options = RuntimeOptions(threads=THREADS)
    models = {
        name: PromptableModel(Bundle(each), options, options, options) for name, each in folders.items()
    }
    scenes, is_last = choose_scenes(nuclei)
    scores = {name: score_model(model, scenes) for name, model in models.items()}
    if is_last:
        for name, model in models.items():
            scores[name] |= score_public_clicks(model) | score_service(folders[name])
    rows = [compare(label, scores["ships"][label], value) for label, value in scores["trial"].items()]
    return [*rows, *measure_costs(models, folders)]


def choose_scenes(folder: Path) -> tuple[list[Any], bool]:
    """Return the images to score, and whether they are those that judge a trial at the end."""
    training, validation = read_nuclei(folder)
    is_last = not REHEARSE and os.environ.get("BENCH_STARTER_ON", "validation") == "validation"
    scenes = validation if is_last else split_tuning(training)[1]
    return scenes[:REHEARSED_IMAGES] if REHEARSE else scenes, is_last


def compare(label: str, ships: float, trial: float) -> Row:
    """Return the row of a score, with its target if there is one."""
    name = label.removesuffix(" (raw)")
    shown = (f"{trial:.3f}", f"{ships:.3f}")
    if name in TARGETS:
        return Row(label, shown[0], f">= {TARGETS[name]:g}", trial >= TARGETS[name], shown[1])
    if name in LIMITS:
        return Row(label, shown[0], f"<= {LIMITS[name]:g}", trial <= LIMITS[name], shown[1])
    return Row(label, shown[0], ships=shown[1])


def measure_costs(models: dict[str, PromptableModel], folders: dict[str, Path]) -> list[Measurement]:
    """Return rows of bytes and times. The times are of the graphs alone."""
    megabytes = {
        name: sum(file.bytes for file in Bundle(each).manifest.files.values()) / 1e6
        for name, each in folders.items()
    }
    image = np.random.default_rng(0).integers(0, 255, (TIMED_INPUT_PX, TIMED_INPUT_PX, 3), dtype=np.uint8)
    clickers = {name: Clicker(model, image) for name, model in models.items()}
    middle = np.full((1, 2), TIMED_INPUT_PX / 2, np.float32)
    prepared = preprocess_image(image, models["ships"].preprocess)
    encode: dict[str, Callable[[], object]] = {
        name: (lambda model=model: model.encode(prepared)) for name, model in models.items()
    }
    click: dict[str, Callable[[], object]] = {
        name: (lambda each=each: each.click(middle, raw=False)) for name, each in clickers.items()
    }
    rows: list[Measurement] = [
        Row(
            "the bundle, MB",
            f"{megabytes['trial']:.1f}",
            f"<= {MAX_BUNDLE_MB:g}",
            megabytes["trial"] <= MAX_BUNDLE_MB,
            f"{megabytes['ships']:.1f}",
        )
    ]
    for label, calls, most in (("encode", encode, MAX_ENCODE_RATIO), ("click", click, MAX_CLICK_RATIO)):
        times = measure_interleaved_ms(calls, repeats=30)
        ratio = times["trial"] / times["ships"]
        rows.append(
            Row(
                f"{label}, ms",
                f"{times['trial']:.1f} ({ratio:.2f}x)",
                f"<= {most}x",
                ratio <= most,
                f"{times['ships']:.1f}",
            )
        )
    return rows


def score_model(model: PromptableModel, scenes: list[Any]) -> Values:
    """Return the scores of nuclei, crops and discs, raw and clean. scenes: images of nuclei with their masks."""
    values: Values = {}
    clickers = [Clicker(model, scene.image) for scene in scenes]
    for raw in (False, True):
        suffix = " (raw)" if raw else ""
        for clicker in clickers:
            clicker.parts.clear()
        with ThreadPoolExecutor(1) as threads:
            for protocol in (CLICKS, BOX):
                steps = []
                for clicker, scene in zip(clickers, scenes, strict=True):
                    result = prompt_objects(
                        partial(clicker.predict, raw=raw), scene.mask, protocol, threads, MIN_NUCLEUS_PX
                    )
                    steps.append(result.steps)
                scores = average_protocol_scores(protocol, steps).iou
                if protocol is CLICKS:
                    values[f"nuclei, click{suffix}"] = scores[0]
                    values[f"nuclei, three corrections{suffix}"] = scores[-1]
                else:
                    values[f"nuclei, box{suffix}"] = scores[0]
        parts = [count for clicker in clickers for count in clicker.parts]
        values[f"nuclei, mean number of parts of a mask{suffix}"] = float(np.mean(parts))
        values |= {f"{name}{suffix}": value for name, value in score_discs(model, raw).items()}
        values |= {f"{name}{suffix}": value for name, value in score_crops(model, scenes, raw).items()}
    accuracies = [
        score_ais(model, each.embedding, scene.mask) for each, scene in zip(clickers, scenes, strict=True)
    ]
    values["nuclei, AIS mSA"], values["nuclei, AIS SA50"] = map(float, np.mean(accuracies, axis=0))
    return values


def count_parts(mask: Bool) -> int:
    return int(ndimage.label(mask, np.ones((3, 3)))[1])


def score_discs(model: PromptableModel, raw: bool) -> Values:
    """Return the IoU after many positive points at once, all over a bright disc on a dark ground."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:TIMED_INPUT_PX, :TIMED_INPUT_PX] - TIMED_INPUT_PX // 2
    disc = rows**2 + columns**2 < DISC_RADIUS_PX**2
    grey = np.where(disc, 170, 40) + rng.normal(0, 8, disc.shape)
    clicker = Clicker(model, np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1))
    inside = np.argwhere(disc)[:, ::-1]
    return {
        f"disc, {count} points": iou(
            disc, clicker.click(inside[rng.integers(len(inside), size=count)], raw=raw)
        )
        for count in DISC_POINTS
    }


def score_crops(model: PromptableModel, scenes: list[Any], raw: bool) -> Values:
    """Return the mean IoU of a click in a crop of a picture round one nucleus, by the crop's margin."""
    values: Values = {}
    for margin in CROP_MARGINS_PX:
        ious = []
        for scene in scenes[:CROPPED_NUCLEI]:
            counts = np.bincount(scene.mask.ravel())
            counts[0] = 0
            mask = scene.mask == counts.argmax()
            x0, y0, x1, y1 = bounding_box(mask)
            part = np.s_[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin]
            clicker = Clicker(model, np.ascontiguousarray(scene.image[part]))
            ious.append(iou(mask[part], clicker.click(np.array([deepest_pixel(mask[part])]), raw=raw)))
        values[f"crops with {margin} px round a nucleus, click"] = float(np.mean(ious))
    return values


def score_public_clicks(model: PromptableModel) -> Values:
    """Return the scores of clicks on a public picture, clean and raw."""
    label = "stardist 2D, click"
    return {label: score_stardist_clicks(model, False), f"{label} (raw)": score_stardist_clicks(model, True)}


def score_stardist_clicks(model: PromptableModel, raw: bool) -> float:
    """Return the mean IoU of a click for each nucleus, on the picture as the service reads its 16 bits."""
    picture, truth = (read_tiff(STARDIST, f"images/{name}2d.tif") for name in ("img", "mask"))
    low, high = np.percentile(picture, (0.1, 99.9))
    grey = np.clip(255 * (picture.astype(np.float32) - low) / max(high - low, 1), 0, 255).astype(np.uint8)
    clicker = Clicker(model, np.repeat(grey[..., None], 3, -1))
    masks = [truth == each for each in list_objects(truth)]
    ious = [iou(mask, clicker.click(np.array([deepest_pixel(mask)]), raw=raw)) for mask in masks]
    return float(np.mean(ious))


def score_service(bundle: Path) -> Values:
    """Return the scores of automatic segmentation by a service whose starter is this bundle, with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        if bundle.parent != BUILT_IN_MODELS:
            shutil.copytree(bundle, Path(folder) / "models/starter")
        server = Server(Path(folder), encode_threads=str(THREADS))
        server.client.timeout = 600
        try:
            return score_public_pictures(server)
        finally:
            server.stop()


def score_public_pictures(server: Server) -> Values:
    def accuracy(picture: bytes, truth: NDArray[Any]) -> tuple[float, float]:
        labels = label_automatically(server, picture, truth.shape, "starter", "ais")
        matches = match_label_maps(truth.astype(np.int64), labels)
        return mean_segmentation_accuracy(matches), matches[AT_50].accuracy

    values: Values = {}
    picture, truth = (read_tiff(STARDIST, f"images/{name}2d.tif") for name in ("img", "mask"))
    values["stardist 2D, AIS mSA"] = accuracy(encode_tiff(picture), truth)[0]
    volume, labels = read_tiff(NAPARI, "nuclei.tif"), read_tiff(NAPARI, "nuclei_label.tif")
    means = [accuracy(encode_tiff(volume[each]), labels[each])[0] for each in SLICES]
    values["napari slices 24, 34, 44, AIS mSA"] = float(np.mean(means))
    values["H&E, AIS SA50"] = accuracy(*read_h_and_e())[1]
    return values
