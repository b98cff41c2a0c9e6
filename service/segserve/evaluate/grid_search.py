"""The best parameters of a method for a folder of images with truth, by mean segmentation accuracy (mSA)."""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segserve.evaluate import object_matching, overlap_scores
from segserve.evaluate.model_runner import METHODS, ModelRunner, get_by_name, parse_params
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
    """msa: mean over the images."""

    params: Params
    msa: float


def build_grid(name: str, replaced: Grid) -> Grid:
    """The method's grid with some parameters' values replaced or added. Raises BadInput."""
    grid = {**get_by_name(GRIDS, name), **replaced}
    for each in expand_grid(grid):
        parse_params(name, each)
    return grid


def expand_grid(grid: Grid) -> list[dict[str, Any]]:
    """Every combination."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


async def search_grid(
    runner: ModelRunner,
    images: Sequence[tuple[str, Labels]],
    name: str,
    grid: Grid,
    on_trial: Callable[[], None] = lambda: None,
) -> list[Trial]:
    """Every setting on every (image_id, truth), best first, equal ones in the grid's order. What a setting does
    not change, the service has kept: only the post-processing is done again."""
    wanted = expand_grid(grid)
    entries = [parse_params(name, each) for each in wanted]
    room = runner.service.settings.whole_workers + runner.service.settings.whole_queue
    turn = asyncio.Semaphore(min(count_cores(), room))

    async def one(image_id: str, truth: Labels, params: StrictSchema) -> float:
        async with turn:
            found = await METHODS[name].run(runner.service, image_id, runner.model, params)
            score = await asyncio.to_thread(score_label_map, truth, found)
        on_trial()
        return score

    scores = []
    for image_id, truth in images:  # one image's maps at a time
        first = await one(image_id, truth, entries[0])
        scores.append([first, *await asyncio.gather(*(one(image_id, truth, each) for each in entries[1:]))])
    means = np.mean(scores, axis=0)
    return [Trial(wanted[i], float(means[i])) for i in np.argsort(-means, kind="stable")]


def score_label_map(truth: Labels, found: Labels) -> float:
    return object_matching.mean_segmentation_accuracy(
        object_matching.match_at_thresholds(
            object_matching.find_overlaps(overlap_scores.count_value_pairs(truth, found))
        )
    )


def write_best_params(models_dir: Path, bundle: Bundle, name: str, best: Params) -> Bundle:
    """The bundle with `best` in its manifest's section of the method, in the models' folder: in its own place, or
    before the one that came with segserve. All its files are checked before, and again after."""
    manifest = bundle.expect(PromptableManifest)
    bundle.verify()
    section = getattr(manifest, name)
    given = section.explicit_params() if section else {}
    entry = parse_params(name, {**given, **best})
    with new_bundle(models_dir, bundle.folder.name, replace=True) as folder:
        for file in bundle.folder.iterdir():  # a licence and the like too
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, folder / file.name)
        write_manifest(folder, manifest.model_copy(update={name: entry}))
    return Bundle(models_dir / bundle.folder.name)
