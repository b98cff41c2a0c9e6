"""Grid search: the best parameters of AIS or AMG for a folder of images with ground truth, by mean segmentation
accuracy (mSA)."""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segserve.evaluate.model_runner import METHODS, ModelRunner, get_by_name, parse_params
from segserve.evaluate.object_matching import match_label_maps, mean_segmentation_accuracy
from segserve.masks.label_map import Labels
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.install import new_bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.strict_schema import StrictSchema
from segserve.settings import count_cores

Params = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]

DISTANCE_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)

# The grids of micro-sam 1.8 (`default_grid_search_values_...`).
GRIDS: dict[str, Grid] = {
    "ais": {
        "center_distance_threshold": DISTANCE_THRESHOLDS,
        "boundary_distance_threshold": DISTANCE_THRESHOLDS,
        "distance_smoothing": (1.0, 1.2, 1.4, 1.6, 1.8, 2.0),
        "min_size": (50, 100, 200),
    },
    "amg": {
        "pred_iou_thresh": (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
        "stability_score_thresh": (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    },
}


@dataclass(frozen=True)
class Trial:
    """One combination of parameters. msa: the mean over the images."""

    params: Params
    msa: float


def build_grid(method: str, replaced: Grid) -> Grid:
    """Return the method's grid with the values of some parameters replaced or added.

    Raises BadInput for an unknown method or parameter, and for a value that the method does not take.
    """
    grid = {**get_by_name(GRIDS, method), **replaced}
    for params in expand_grid(grid):
        parse_params(method, params)
    return grid


def expand_grid(grid: Grid) -> list[dict[str, Any]]:
    """Return every combination of the grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


async def search_grid(
    runner: ModelRunner,
    images: Sequence[tuple[str, Labels]],
    method: str,
    grid: Grid,
    on_trial: Callable[[], None] = lambda: None,
) -> list[Trial]:
    """Run every combination of parameters on every image.

    images: (image_id, truth [H, W]).
    on_trial: called after each combination on each image.
    Returns the trials, best first; equal ones keep the grid's order. The service caches what a parameter does not
    change, so only the post-processing runs again.
    """
    combinations = expand_grid(grid)
    entries = [parse_params(method, params) for params in combinations]
    max_admitted = runner.service.settings.whole_workers + runner.service.settings.whole_queue
    slots = asyncio.Semaphore(min(count_cores(), max_admitted))

    async def run_trial(image_id: str, truth: Labels, params: StrictSchema) -> float:
        async with slots:
            prediction = await METHODS[method].run(runner.service, image_id, runner.model, params)
            score = await asyncio.to_thread(score_labels, truth, prediction)
        on_trial()
        return score

    scores = []
    for image_id, truth in images:  # one after another, so that the caches hold one image's maps
        first = await run_trial(image_id, truth, entries[0])  # fills the caches for the others
        others = await asyncio.gather(*(run_trial(image_id, truth, entry) for entry in entries[1:]))
        scores.append([first, *others])
    means = np.mean(scores, axis=0)
    return [Trial(combinations[i], float(means[i])) for i in np.argsort(-means, kind="stable")]


def score_labels(truth: Labels, prediction: Labels) -> float:
    """Return the mSA of a label map [H, W]."""
    return mean_segmentation_accuracy(match_label_maps(truth, prediction))


def write_best_params(models_dir: Path, bundle: Bundle, method: str, best: Params) -> Bundle:
    """Write the bundle again with `best` as the method's defaults in its manifest, and return the new bundle.

    It is written to the models' folder, where it replaces the bundle, or hides the one that came with segserve. The
    digests of all files are checked before, and again after.
    """
    manifest = bundle.expect(PromptableManifest)
    bundle.verify()
    section = getattr(manifest, method)
    explicit = section.explicit_params() if section else {}
    entry = parse_params(method, {**explicit, **best})
    with new_bundle(models_dir, bundle.folder.name, replace=True) as folder:
        for file in bundle.folder.iterdir():  # all files: a licence and the like too
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, folder / file.name)
        write_manifest(folder, manifest.model_copy(update={method: entry}))
    return Bundle(models_dir / bundle.folder.name)
