"""`segserve evaluate compare`: several models on the same images, scored as regions.

A semantic model gets the image alone. A promptable one gets the box of every connected region of the truth, and its
masks get the values of their regions: it is told where the objects are and what they are.
"""

import asyncio
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from segserve.app import Service
from segserve.errors import BadInput
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import FilePair
from segserve.evaluate.hausdorff import Spacing
from segserve.evaluate.iterative_prompting import build_prompt
from segserve.evaluate.model_runner import ModelRunner, SemanticParams, run_semantic, running_service
from segserve.evaluate.report_tables import Rows, format_number
from segserve.evaluate.run_evaluation import OutputFiles, pair_and_check
from segserve.evaluate.scores import (
    DatasetScores,
    ImageScores,
    aggregate_scores,
    finite_or_none,
    score_image,
    scores_to_json,
)
from segserve.masks import crop as crops
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest, SemanticManifest
from segserve.models.parameter_count import count_parameters
from segserve.progress_bar import count_progress
from segserve.settings import Settings
from segserve.types import Box

# Of each kind of truth: the scores in the order of the columns. Distances are between boundaries, as in most papers.
COLUMNS = {
    MapKind.BINARY: ("dice", "iou", "hausdorff_boundaries", "hausdorff_boundaries_95"),
    MapKind.CLASSES: ("mean_dice", "mean_iou", "hausdorff_boundaries", "hausdorff_boundaries_95"),
}
TITLES = ("Dice", "IoU", "Hausdorff", "Hausdorff 95%")
TOUCHING = np.ones((3, 3))  # pixels of a region touch by edges or corners


@dataclass(frozen=True)
class ComparedModel:
    """One model on all images.

    given: what it is given beside the image.
    parameters: of its networks. image_ms: the median time from a stored image to its map.
    """

    name: str
    architecture: str
    given: str
    parameters: int
    image_ms: float
    scores: DatasetScores

    def column_values(self) -> list[float]:
        return [self.scores.mean[name] for name in COLUMNS[self.scores.kind]]

    def to_row(self) -> list[str]:
        """Return the cells of the printed table."""
        scores = []
        for name, value in zip(COLUMNS[self.scores.kind], self.column_values(), strict=True):
            infinite = self.scores.not_finite.get(name, 0)
            scores.append(format_number(name, value) + (f", {infinite} infinite" if infinite else ""))
        millions = f"{self.parameters / 1e6:.2f} M"
        return [self.name, self.architecture, self.given, *scores, millions, f"{self.image_ms:.0f}"]

    def to_csv(self) -> list[Any]:
        values = ["" if finite_or_none(each) is None else f"{each:.6g}" for each in self.column_values()]
        return [
            self.name, self.architecture, self.given, *values, self.parameters, f"{self.image_ms:.3f}",
        ]  # fmt: skip

    def to_json(self, unit: str) -> dict[str, Any]:
        return {
            "model": self.name,
            "architecture": self.architecture,
            "given": self.given,
            "parameters": self.parameters,
            "ms_per_image": self.image_ms,
            **scores_to_json(self.scores, unit),
        }


async def compare_models(
    settings: Settings,
    images: Path,
    truths: Path,
    models: Sequence[str],
    kind: MapKind,
    spacing: tuple[Spacing, str],
    outputs: OutputFiles,
    table: Path | None,
) -> None:
    """Print a table of models, and write it as JSON and CSV. table: the CSV file.

    Raises BadInput, ModelNotFound before anything is run, and the errors of the models.
    """
    outputs.check_writable()
    OutputFiles(table).check_writable()
    if kind not in COLUMNS:
        raise BadInput(
            "Models are compared by regions, not by objects.",
            field="--kind",
            remedy="Give binary or classes; `segserve evaluate model` and `prompts` score objects.",
        )
    async with running_service(settings) as service:
        bundles = [service.registry.bundle(name) for name in dict.fromkeys(models)]
        for bundle in bundles:
            check_comparable(bundle)
        pairs = pair_and_check(images, truths, kind)
        compared = []
        with count_progress("images, each model", len(pairs) * len(bundles)) as advance:
            for bundle in bundles:
                runner = TimedRunner(service, bundle, kind, spacing[0])
                await runner.run(pairs[0])  # loads the model
                runner.times.clear()
                scores = []
                for pair in pairs:
                    scores.append(await runner.run(pair))
                    advance()
                compared.append(runner.summarise(scores))
    unit = spacing[1]
    rows = make_table(compared, unit)
    content = {"images": len(pairs), "models": [each.to_json(unit) for each in compared]}
    outputs.write(f"{len(pairs)} images of {images}", "", [rows], content, None)
    if table is not None:
        write_csv(table, compared, unit)


def check_comparable(bundle: Bundle) -> None:
    """Raise BadInput for a model that is neither semantic nor promptable."""
    if not isinstance(bundle.manifest, SemanticManifest | PromptableManifest):
        raise BadInput(
            f"Model {bundle.name!r} finds {bundle.manifest.TASK}.",
            field="--model",
            remedy="Compare semantic and promptable models.",
        )


class TimedRunner:
    """`TimedRunner` runs one model on one image after another, and scores its maps. times: seconds of each image."""

    def __init__(self, service: Service, bundle: Bundle, kind: MapKind, spacing: Spacing) -> None:
        self._runner, self._bundle = ModelRunner(service, bundle.name), bundle
        self._kind, self._spacing = kind, spacing
        self._is_semantic = isinstance(bundle.manifest, SemanticManifest)
        self.times: list[float] = []

    async def run(self, pair: FilePair) -> ImageScores:
        image_id, truth = await self._runner.add_image(pair, self._kind)
        try:
            values, boxes = find_boxes(truth, self._kind)
            start = time.perf_counter()
            if self._is_semantic:
                prediction: Labels = await run_semantic(
                    self._runner.service, image_id, self._runner.model, SemanticParams()
                )
            else:
                prediction = await self._segment_boxes(image_id, values, boxes, truth)
            self.times.append(time.perf_counter() - start)
        finally:
            await self._runner.delete_image(image_id)
        return await asyncio.to_thread(
            score_image, pair.name, self._kind, truth, prediction, spacing=self._spacing
        )

    async def _segment_boxes(
        self, image_id: str, values: Sequence[int], boxes: Sequence[Box], truth: Labels
    ) -> Labels:
        predict = await self._runner.build_predictor(image_id, raw=False)
        pool = self._runner.service.decode_pool
        tasks = [pool.submit(predict, build_prompt([], box, None)) for box in boxes]
        masks = [(await asyncio.wrap_future(task)).crop for task in tasks]
        size = masks[0].size if masks else None
        if size is None:
            return np.zeros(truth.shape, np.uint8)
        return np.array([0, *values])[label_map.from_crops(masks, size)]

    def summarise(self, scores: Sequence[ImageScores]) -> ComparedModel:
        return ComparedModel(
            self._bundle.name,
            self._bundle.manifest.architecture,
            "nothing" if self._is_semantic else "boxes of the truth",
            count_parameters(self._bundle),
            1000 * float(np.median(self.times)),
            aggregate_scores(self._kind, scores),
        )


def find_boxes(truth: Labels, kind: MapKind) -> tuple[list[int], list[Box]]:
    """Return the value and the box of each connected region of each value of a map [H, W].

    Values of a binary map become 1.
    """
    values, boxes = list[int](), list[Box]()
    for value in np.unique(truth[truth > 0]).tolist():
        regions, _ = ndimage.label(truth == value, TOUCHING)
        for crop in label_map.to_crops(regions):
            values.append(1 if kind is MapKind.BINARY else value)
            boxes.append(Box(*map(float, crops.bounding_box(crop))))
    return values, boxes


def make_table(compared: Sequence[ComparedModel], unit: str) -> Rows:
    """Return the table that is printed."""
    titles = [f"{title} ({unit})" if title.startswith("Hausdorff") else title for title in TITLES]
    head = ["model", "architecture", "given", *titles, "parameters", "ms per image"]
    return [head, *(each.to_row() for each in compared)]


def write_csv(path: Path, compared: Sequence[ComparedModel], unit: str) -> None:
    """Write a line for each model, with full numbers; an infinite distance is empty."""
    names = ("dice", "iou", f"hausdorff_{unit}", f"hausdorff_95_{unit}")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "architecture", "given", *names, "parameters", "ms_per_image"])
        writer.writerows(each.to_csv() for each in compared)
