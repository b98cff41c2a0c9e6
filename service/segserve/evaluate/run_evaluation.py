"""The four commands of `segserve evaluate`: masks, model, prompts and search. `evaluate.cli` parses their options."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from segserve.errors import BadInput
from segserve.evaluate import grid_search, ground_truth, iterative_prompting, report_tables
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import FilePair
from segserve.evaluate.hausdorff import Spacing
from segserve.evaluate.html_page import BestCases, WorstCase, WorstCases, draw_outlines, render_page
from segserve.evaluate.iterative_prompting import (
    PromptingProtocol,
    PromptingResult,
    ProtocolScores,
    StepScores,
)
from segserve.evaluate.model_runner import METHODS, ModelRunner, parse_params, running_service
from segserve.evaluate.object_matching import mean_segmentation_accuracy
from segserve.evaluate.scores import MAIN_SCORE, ImageScores, aggregate_scores, score_image, scores_to_json
from segserve.files.local_pictures import LocalPictures
from segserve.masks.label_map import Labels
from segserve.progress_bar import count_progress
from segserve.settings import Settings

# What editors of images save a mask of one region as.
MASK_VALUES = {0, 255}


@dataclass(frozen=True)
class OutputFiles:
    """The files to write beside the printed table. json: all scores. page: HTML of the worst cases."""

    json: Path | None = None
    page: Path | None = None

    def check_writable(self) -> None:
        """Raise BadInput for a path that cannot be written: before long work, not after it."""
        for path in (self.json, self.page):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise BadInput(
                    f"{path} cannot be written.",
                    field=str(path),
                    remedy="Name a file in a folder that exists.",
                )

    def collect_worst(self) -> WorstCases | None:
        """Return a collection for the page, None without a page."""
        return None if self.page is None else WorstCases()

    def write(
        self,
        title: str,
        score: str,
        tables: Sequence[report_tables.Rows],
        content: dict[str, Any],
        worst: WorstCases | None,
        best: BestCases | None = None,
        *,
        noun: str = "images",
    ) -> None:
        """Print the tables, and write the files.

        score: the name of the score that ranks the page's cases. noun: what a case is, in the plural.
        """
        for index, rows in enumerate(tables):
            report_tables.print_table(title if index == 0 else "", rows)
        if self.json is not None:
            report_tables.write_json(self.json, content)
        if self.page is not None and worst is not None:
            text = render_page(title, score, tables, worst, best, noun=noun)
            self.page.write_text(text, encoding="utf-8")


class Evaluation:
    """`Evaluation` scores one image after another, then reports on all of them.

    kind: what the maps' values mean. unit: of distances.
    """

    def __init__(
        self, kind: MapKind, ignore: int | None, spacing: Spacing, unit: str, outputs: OutputFiles
    ) -> None:
        outputs.check_writable()
        self.kind, self._ignore, self._outputs = kind, ignore, outputs
        self._spacing, self._unit = spacing, unit
        self._scores: list[ImageScores] = []
        self._worst = outputs.collect_worst()
        self._truth_values = set[int]()  # no more than tell masks of one region from other maps

    def score(self, name: str, truth: Labels, prediction: Labels, image: Path | None) -> None:
        """Score a prediction [H, W]. image: its file, for the page."""
        scores = score_image(name, self.kind, truth, prediction, ignore=self._ignore, spacing=self._spacing)
        self._scores.append(scores)
        if self._truth_values <= MASK_VALUES:
            self._truth_values |= set(np.unique(truth).tolist())
        main_score = scores.values[MAIN_SCORE[self.kind]]
        caption = report_tables.format_caption(self.kind, scores)
        add_case(self._worst, name, main_score, caption, truth, prediction, image)

    def report(self, title: str) -> None:
        """Print the scores of all images, and write the output files."""
        is_mask = self._truth_values <= MASK_VALUES and max(MASK_VALUES) in self._truth_values
        if is_mask and self.kind is not MapKind.BINARY and self._ignore not in MASK_VALUES:
            Console(stderr=True).print(
                f"The truths hold 0 and 255 only. If they are masks of one region and no {self.kind},"
                " score them by --kind binary.",
                soft_wrap=True,
            )
        scores = aggregate_scores(self.kind, self._scores)
        tables = [report_tables.score_table(scores, self._unit)]
        if self.kind is MapKind.CLASSES:
            tables.append(report_tables.class_table(scores))
        content = scores_to_json(scores, self._unit)
        self._outputs.write(title, report_tables.main_score_title(self.kind), tables, content, self._worst)


def evaluate_masks(predictions: Path, truths: Path, evaluation: Evaluation, images: Path | None) -> None:
    """Score a folder of predicted maps. images: a folder of images for the page. Raises BadInput."""
    kind = evaluation.kind
    pairs = ground_truth.pair_files(predictions, truths, images=False, kind=kind)
    image_by_name: dict[str, Path] = {}
    if images:
        image_pairs = ground_truth.pair_files(images, truths, images=True, kind=kind)
        image_by_name = {each.name: each.path for each in image_pairs}
    with count_progress("scored", len(pairs)) as advance:
        for pair in pairs:
            prediction, truth = ground_truth.read_map_pair(pair, kind)
            evaluation.score(pair.name, truth, prediction, image_by_name.get(pair.name))
            advance()
    evaluation.report(f"{predictions} against {truths}")


def pair_and_check(images: Path, truths: Path, kind: MapKind = MapKind.LABELS) -> list[FilePair]:
    """Pair two folders, and read every file once. Raises BadInput: before hours of work, not after them.

    kind: what the truths' values mean.
    """
    pairs = ground_truth.pair_files(images, truths, images=True, kind=kind)
    pictures = LocalPictures(ground_truth.MAX_PIXELS)
    with count_progress("checked", len(pairs)) as advance, pictures:
        for pair in pairs:
            ground_truth.check_pair(pair, pictures)
            advance()
    return pairs


async def evaluate_model(
    settings: Settings,
    images: Path,
    truths: Path,
    method: str,
    params: Mapping[str, Any],
    evaluation: Evaluation,
) -> None:
    """Score the settings' default model by one of METHODS. Raises BadInput, and the errors of the method."""
    entry = parse_params(method, params)
    pairs = pair_and_check(images, truths, evaluation.kind)
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        with count_progress("images", len(pairs)) as advance:
            for pair in pairs:
                image_id, truth = await runner.add_image(pair, evaluation.kind)
                prediction = await METHODS[method].run(service, image_id, runner.model, entry)
                await asyncio.to_thread(evaluation.score, pair.name, truth, prediction, pair.path)
                await runner.delete_image(image_id)
                advance()
    evaluation.report(f"{settings.default_model} ({method}) on {images}")


async def evaluate_prompts(
    settings: Settings,
    images: Path,
    truths: Path,
    protocols: Sequence[PromptingProtocol],
    min_size: int,
    outputs: OutputFiles,
    *,
    raw: bool,
) -> None:
    """Score every protocol on every image. The page shows the last step of the first protocol. Raises BadInput."""
    outputs.check_writable()
    pairs = pair_and_check(images, truths)
    worst = outputs.collect_worst()
    scores = await run_protocols(settings, pairs, protocols, min_size, worst, raw=raw)
    shown = f"shown: {protocols[0].name}, step {protocols[0].steps}"
    outputs.write(
        f"{settings.default_model}, prompted, on {images}: {scores[0].objects} objects ({shown})",
        "mean IoU",
        report_tables.protocol_tables(scores),
        {"model": settings.default_model, "courses": [asdict(each) for each in scores]},
        worst,
    )


async def run_protocols(
    settings: Settings,
    pairs: list[FilePair],
    protocols: Sequence[PromptingProtocol],
    min_size: int,
    worst: WorstCases | None,
    *,
    raw: bool,
) -> list[ProtocolScores]:
    """Return the scores of each protocol over all images. Raises BadInput where no truth has an object."""
    steps: list[list[list[StepScores]]] = [[] for _ in protocols]
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        with count_progress("images, each protocol", len(pairs) * len(protocols)) as advance:
            for pair in pairs:
                image_id, truth = await runner.add_image(pair)
                predict = await runner.build_predictor(image_id, raw=raw)
                for index, protocol in enumerate(protocols):
                    result = await asyncio.to_thread(
                        iterative_prompting.prompt_objects,
                        predict,
                        truth,
                        protocol,
                        service.decode_pool,
                        min_size,
                    )
                    steps[index].append(result.steps)
                    if index == 0:
                        add_prompted_case(worst, pair, result)
                    advance()
    if not any(image[0].ious for image in steps[0]):
        raise BadInput(
            f"No truth has an object of {min_size} pixels or more.",
            field=str(pairs[0].truth.parent),
            remedy="Name label maps whose objects have values above 0.",
        )
    return [
        iterative_prompting.average_protocol_scores(protocol, images)
        for protocol, images in zip(protocols, steps, strict=True)
    ]


async def search_parameters(
    settings: Settings,
    images: Path,
    truths: Path,
    method: str,
    grid: grid_search.Grid,
    outputs: OutputFiles,
    *,
    write: bool,
) -> None:
    """Search the method's best parameters. grid: replaces values of its own grid.

    write: make the best ones the model's defaults.
    Raises BadInput, and the errors of the method.
    """
    outputs.check_writable()
    full_grid = grid_search.build_grid(method, grid)
    pairs = pair_and_check(images, truths)
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        added = [await runner.add_image(pair) for pair in pairs]
        with count_progress("tried", len(added) * len(grid_search.expand_grid(full_grid))) as advance:
            trials = await grid_search.search_grid(runner, added, method, full_grid, advance)
        if write:
            bundle = service.registry.bundle(settings.default_model)
            grid_search.write_best_params(settings.models_folder, bundle, method, trials[0].params)
    title = f"{settings.default_model} ({method}) on {images}: the best of {len(trials)}, and the worst"
    content = {
        "model": settings.default_model,
        "method": method,
        "written": write,
        "trials": [asdict(trial) for trial in trials],
    }
    outputs.write(title, "mSA", [report_tables.trial_table(trials)], content, None)


def add_prompted_case(worst: WorstCases | None, pair: FilePair, result: PromptingResult) -> None:
    """Add the last step of a prompted image to the page, if it has objects and is among the worst."""
    last = result.steps[-1]
    if last.ious:
        mean_iou = sum(last.ious) / len(last.ious)
        caption = f"{len(last.ious)} objects · mSA {mean_segmentation_accuracy(last.matches):.3f}"
        add_case(worst, pair.name, mean_iou, caption, result.truth, result.prediction, pair.path)


def add_case(
    worst: WorstCases | None,
    name: str,
    score: float,
    caption: str,
    truth: Labels,
    prediction: Labels,
    image_path: Path | None,
) -> None:
    """Draw a case and add it to the page, if there is a page and the case is among the worst."""
    if worst is not None and worst.register(score):
        image = None
        if image_path is not None:
            with LocalPictures(ground_truth.MAX_PIXELS) as pictures:
                image = ground_truth.read_rgb(image_path, pictures)
            ground_truth.check_sizes(image_path, image.shape[:2], "its truth", truth.shape)
        worst.add(WorstCase(name, score, caption, draw_outlines(image, truth, prediction)))
