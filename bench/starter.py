"""Scores of the starter and of starter-unet on their validation images, by the encoder and decoder of the service.

It needs the nuclei data: BENCH_NUCLEI names the folder.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.measuring import THREADS, Measurement
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.parameters import resolve_ais_params
from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.evaluate.cli_choices import Correction, FirstPrompt
from segserve.evaluate.iterative_prompting import (
    PromptingProtocol,
    StepScores,
    average_protocol_scores,
    prompt_objects,
)
from segserve.evaluate.object_matching import AT_50, match_label_maps, mean_segmentation_accuracy
from segserve.evaluate.overlap_scores import dice
from segserve.masks.label_map import Labels
from segserve.models.manifest import AisEntry
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.class_map import resolve_thresholds
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.segmenter import segment_image
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.train.dataset_folder import LabelledImage
from segserve.types import Candidate, Embedding, Prompt, Select, Size

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from nuclei import read_nuclei

TARGETS = {
    "mean IoU, click": 0.75,
    "mean IoU, box": 0.80,
    "mean IoU, corrected": 0.82,
    "AIS, mean segmentation accuracy": 0.50,
    "AIS, SA(0.5)": 0.75,
    "starter-unet, Dice": 0.90,
}
MIN_NUCLEUS_PX = 30  # smaller nuclei are left out
CLICKS = PromptingProtocol(FirstPrompt.POINT, with_mask=True, steps=4, correction=Correction.DEEPEST)
BOX = PromptingProtocol(FirstPrompt.BOX, with_mask=True, steps=1)


def measure() -> list[Measurement]:
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        return [Measurement(f"skipped: there is no folder {folder}", "")]
    options = RuntimeOptions(threads=THREADS)
    registry = ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40)
    model, unet = registry.load("starter", PromptableModel), registry.load("starter-unet", SemanticModel)
    _, validation = read_nuclei(folder)
    steps: dict[PromptingProtocol, list[list[StepScores]]] = {CLICKS: [], BOX: []}
    accuracies, dices = list[tuple[float, float]](), list[float]()
    with ThreadPoolExecutor(1) as threads:
        for scene in validation:
            embedding = unpack_embedding(
                pack_embedding(model.encode(preprocess_image(scene.image, model.preprocess)))
            )
            image = PreparedImage(Size(*scene.mask.shape), embedding, model.prepare(embedding, None))

            def predict(prompt: Prompt, image: PreparedImage = image) -> Candidate:
                return decode_prompt(model, image, prompt, None, Select.BEST, Timings(), raw=False)[0]

            for protocol, images in steps.items():
                images.append(prompt_objects(predict, scene.mask, protocol, threads, MIN_NUCLEUS_PX).steps)
            accuracies.append(score_ais(model, embedding, scene.mask))
            dices.append(score_unet(unet, scene))
    clicks, box = (average_protocol_scores(protocol, images) for protocol, images in steps.items())
    ais = np.mean(accuracies, axis=0)
    scores = dict(
        zip(TARGETS, [clicks.iou[0], box.iou[0], clicks.iou[-1], *ais, np.mean(dices)], strict=True)
    )
    rows = [
        Measurement(
            f"{len(validation)} validation images, nuclei of {MIN_NUCLEUS_PX} px or more", str(clicks.objects)
        )
    ]
    for name, target in TARGETS.items():
        rows.append(Measurement(name, f"{scores[name]:.3f}", f">= {target}", bool(scores[name] >= target)))
    return rows


def score_ais(model: PromptableModel, embedding: Embedding, truth: Labels) -> tuple[float, float]:
    """Return (mSA, SA at 0.5) of AIS with the parameters of the bundle."""
    size = Size(*truth.shape)
    maps = resize_maps(model.predict_ais_maps(embedding), model.manifest, size)
    prediction = segment_by_watershed(maps, resolve_ais_params(model.manifest, AisEntry()))
    matches = match_label_maps(truth, prediction)
    return mean_segmentation_accuracy(matches), matches[AT_50].accuracy


def score_unet(model: SemanticModel, scene: LabelledImage) -> float:
    """Return the Dice of the whole image."""
    options = SemanticOptions()
    size, thresholds = Size(*scene.mask.shape), resolve_thresholds(model.manifest, None)
    tile = check_options(options, model.manifest, size)
    prediction = segment_image("", scene.image, model, options, tile, thresholds, Timings()).values > 0
    return dice(scene.mask > 0, prediction)
