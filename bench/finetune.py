"""Fine-tuning of the starter on ten images that look unlike its own: automatic segmentation before and after.

BENCH_FINETUNE_STEPS (default: that of the command) is the number of steps.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.drawn_cells import draw_cells
from bench.measuring import THREADS, Measurement, at_most
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.parameters import AisParams
from segserve.encode.preprocess import preprocess_image
from segserve.evaluate.object_matching import (
    AT_50,
    match_label_maps,
    mean_segmentation_accuracy,
    pool_match_counts,
)
from segserve.models.bundle import Bundle
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.train.dataset_folder import LabelledImage
from segserve.train.output_target import OutputTarget
from segserve.train.progress import SilentProgress
from segserve.train.train_promptable import TrainPromptableOptions, fine_tune
from segserve.types import Size

IMAGES = 10  # for training, the held-out one included; the same number for the scores
MAX_MINUTES = 30.0


class PrintedProgress(SilentProgress):
    """`PrintedProgress` prints the scores of each validation."""

    def scores(self, line: dict[str, float]) -> None:
        print({name: round(value, 3) for name, value in line.items()}, flush=True)


def score_ais(bundle: Bundle, images: list[LabelledImage]) -> tuple[float, float]:
    """Return (mSA, SA(0.5)) of AIS with micro-sam's own parameters, all objects pooled."""
    options = RuntimeOptions(threads=THREADS)
    model = PromptableModel(bundle, options, None, options)
    matches = []
    for each in images:
        maps = model.predict_ais_maps(model.encode(preprocess_image(each.image, model.preprocess)))
        prediction = segment_by_watershed(
            resize_maps(maps, model.manifest, Size(*each.mask.shape)), AisParams()
        )
        matches.append(match_label_maps(each.mask, prediction))
    pooled = pool_match_counts(matches)
    return mean_segmentation_accuracy(pooled), pooled[AT_50].accuracy


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    steps = int(os.environ.get("BENCH_FINETUNE_STEPS", TrainPromptableOptions.steps))
    training, unseen = ([draw_cells(seed) for seed in range(s, s + IMAGES)] for s in (0, IMAGES))
    starter = Bundle(BUILT_IN_MODELS / "starter")
    with tempfile.TemporaryDirectory() as folder:
        target = OutputTarget(Path(folder) / "models", "tuned", Path(folder) / "run")
        start, cpu = time.perf_counter(), time.process_time()
        tuned = fine_tune(
            training, starter, target, TrainPromptableOptions(steps=steps), progress=PrintedProgress()
        )
        minutes, cpu_minutes = (time.perf_counter() - start) / 60, (time.process_time() - cpu) / 60
        before, after = score_ais(starter, unseen), score_ais(tuned.bundle, unseen)
    objects = sum(len(np.unique(each.mask)) - 1 for each in unseen)
    return [
        Measurement(f"{IMAGES} training images, {IMAGES} test images, objects in these", str(objects)),
        Measurement("steps", str(steps)),
        Measurement("best on the held-out image, before -> after", tuned.summary.describe_scores()),
        Measurement("at step", f"{tuned.summary.best['step']:.0f}"),
        at_most("from images to bundle", minutes, MAX_MINUTES, "min"),
        Measurement("CPU time, both cores added up", f"{cpu_minutes:.1f} min"),
        Measurement("AIS, SA(0.5), before", f"{before[1]:.3f}"),
        Measurement("AIS, SA(0.5), after", f"{after[1]:.3f}"),
        Measurement("AIS, mSA, before", f"{before[0]:.3f}"),
        Measurement("AIS, mSA, after", f"{after[0]:.3f}", "> before", after[0] > before[0]),
    ]
