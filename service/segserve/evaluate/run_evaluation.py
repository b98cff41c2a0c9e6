"""What `segserve evaluate` does; see `evaluate.cli` for how it is asked."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segserve.errors import BadInput
from segserve.evaluate import grid_search, ground_truth, iterative_prompting, report_tables
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import FilePair
from segserve.evaluate.hausdorff import Spacing
from segserve.evaluate.html_page import Case, WorstCases, draw_outlines, render_page
from segserve.evaluate.iterative_prompting import Protocol, ProtocolScores
from segserve.evaluate.model_runner import METHODS, ModelRunner, parse_params, running_service
from segserve.evaluate.object_matching import mean_segmentation_accuracy
from segserve.evaluate.scores import MAIN_SCORE, ImageScores, aggregate_scores, score_image, scores_to_json
from segserve.masks.label_map import Labels
from segserve.settings import Settings


@dataclass(frozen=True)
class OutputFiles:
    """Files to write, beside the table."""

    json: Path | None = None
    page: Path | None = None

    def check(self) -> None:
        """Before long work rather than after it. Raises BadInput."""
        for path in (self.json, self.page):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise BadInput(
                    f"{path} cannot be written.",
                    field=str(path),
                    remedy="Name a file in a folder that exists.",
                )

    def worst(self) -> WorstCases | None:
        return None if self.page is None else WorstCases()

    def write(
        self,
        title: str,
        score: str,
        tables: Sequence[report_tables.Rows],
        content: dict[str, Any],
        worst: WorstCases | None,
    ) -> None:
        """Show the tables, and write what was asked for. score: what the page's cases are worst by."""
        for index, rows in enumerate(tables):
            report_tables.print_table(title if index == 0 else "", rows)
        if self.json is not None:
            report_tables.write_json(self.json, content)
        if self.page is not None and worst is not None:
            self.page.write_text(render_page(title, score, tables, worst), encoding="utf-8")


class Evaluation:
    """Judges one image after another, and reports on all. unit: of distances."""

    def __init__(
        self, kind: MapKind, ignore: int | None, spacing: Spacing, unit: str, outputs: OutputFiles
    ) -> None:
        outputs.check()
        self._kind, self._ignore, self._outputs = kind, ignore, outputs
        self._spacing, self._unit = spacing, unit
        self._scores: list[ImageScores] = []
        self._worst = outputs.worst()

    def score(self, name: str, truth: Labels, found: Labels, picture: Path | None) -> None:
        """picture: the image, for the page."""
        scores = score_image(name, self._kind, truth, found, ignore=self._ignore, spacing=self._spacing)
        self._scores.append(scores)
        first, caption = (
            scores.values[MAIN_SCORE[self._kind]],
            report_tables.format_caption(self._kind, scores),
        )
        add_case(self._worst, name, first, caption, truth, found, picture)

    def report(self, title: str) -> None:
        judgement = aggregate_scores(self._kind, self._scores)
        tables = [report_tables.score_table(judgement, self._unit)]
        if self._kind is MapKind.CLASSES:
            tables.append(report_tables.class_table(judgement))
        content = scores_to_json(judgement, self._unit)
        self._outputs.write(title, report_tables.main_score_title(self._kind), tables, content, self._worst)


def evaluate_masks(predictions: Path, truths: Path, evaluation: Evaluation, images: Path | None) -> None:
    """images: for the page to draw on. Raises BadInput."""
    pairs = ground_truth.pair_files(predictions, truths, images=False)
    pictures = (
        {each.name: each.path for each in ground_truth.pair_files(images, truths, images=True)}
        if images
        else {}
    )
    with progress_bar("judged", len(pairs)) as advance:
        for each in pairs:
            found, truth = ground_truth.read_map_pair(each.path, each.truth)
            evaluation.score(each.name, truth, found, pictures.get(each.name))
            advance()
    evaluation.report(f"{predictions} against {truths}")


def pair_and_check(images: Path, truths: Path) -> list[FilePair]:
    """All is read once before hours of work rather than after them. Raises BadInput."""
    pairs = ground_truth.pair_files(images, truths, images=True)
    with progress_bar("checked", len(pairs)) as advance:
        for each in pairs:
            ground_truth.check_pair(each)
            advance()
    return pairs


async def evaluate_model(
    settings: Settings,
    images: Path,
    truths: Path,
    name: str,
    params: Mapping[str, Any],
    evaluation: Evaluation,
) -> None:
    """The settings' default model, by the method `name`. Raises BadInput, and what the method raises."""
    entry = parse_params(name, params)
    pairs = pair_and_check(images, truths)
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        with progress_bar("images", len(pairs)) as advance:
            for each in pairs:
                image_id, truth = await runner.add(each)
                found = await METHODS[name].run(service, image_id, runner.model, entry)
                await asyncio.to_thread(evaluation.score, each.name, truth, found, each.path)
                await runner.drop(image_id)
                advance()
    evaluation.report(f"{settings.default_model} ({name}) on {images}")


async def evaluate_prompts(
    settings: Settings,
    images: Path,
    truths: Path,
    protocols: Sequence[Protocol],
    smallest: int,
    outputs: OutputFiles,
) -> None:
    """Every protocol over every image; the page shows what the first one ended with. Raises BadInput."""
    outputs.check()
    pairs = pair_and_check(images, truths)
    worst = outputs.worst()
    courses = await run_protocols(settings, pairs, protocols, smallest, worst)
    shown = f"shown: {protocols[0].name}, step {protocols[0].steps}"
    outputs.write(
        f"{settings.default_model}, prompted, on {images}: {courses[0].objects} objects ({shown})",
        "mean IoU",
        report_tables.protocol_tables(courses),
        {"model": settings.default_model, "courses": [asdict(course) for course in courses]},
        worst,
    )


async def run_protocols(
    settings: Settings,
    pairs: list[FilePair],
    protocols: Sequence[Protocol],
    smallest: int,
    worst: WorstCases | None,
) -> list[ProtocolScores]:
    steps: list[list[list[iterative_prompting.StepScores]]] = [[] for _ in protocols]
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        with progress_bar("images, each way", len(pairs) * len(protocols)) as advance:
            for each in pairs:
                image_id, truth = await runner.add(each)
                ask = await runner.ask(image_id)
                for index, protocol in enumerate(protocols):
                    judged = await asyncio.to_thread(
                        iterative_prompting.prompt_objects,
                        ask,
                        truth,
                        protocol,
                        service.decode_pool,
                        smallest,
                    )
                    steps[index].append(judged.steps)
                    last = judged.steps[-1]
                    if index == 0 and last.ious:
                        mean = sum(last.ious) / len(last.ious)
                        caption = (
                            f"{len(last.ious)} objects · mSA {mean_segmentation_accuracy(last.matched):.3f}"
                        )
                        add_case(worst, each.name, mean, caption, judged.truth, judged.found, each.path)
                    advance()
    if not any(image[0].ious for image in steps[0]):
        raise BadInput(
            f"No truth has an object of {smallest} pixels or more.",
            field=str(pairs[0].truth.parent),
            remedy="Name label maps whose objects have values above 0.",
        )
    return [
        iterative_prompting.average_protocol_scores(protocol, each)
        for protocol, each in zip(protocols, steps, strict=True)
    ]


async def search_parameters(
    settings: Settings,
    images: Path,
    truths: Path,
    name: str,
    grid: grid_search.Grid,
    outputs: OutputFiles,
    *,
    write: bool,
) -> None:
    """write: the best become the model's defaults. Raises BadInput, and what the method raises."""
    outputs.check()
    wanted = grid_search.build_grid(name, grid)
    pairs = pair_and_check(images, truths)
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        added = [await runner.add(each) for each in pairs]
        with progress_bar("tried", len(added) * len(grid_search.expand_grid(wanted))) as advance:
            trials = await grid_search.search_grid(runner, added, name, wanted, advance)
        if write:
            bundle = service.registry.bundle(settings.default_model)
            grid_search.write_best_params(settings.data_dir / "models", bundle, name, trials[0].params)
    title = f"{settings.default_model} ({name}) on {images}: the best of {len(trials)}, and the worst"
    content = {
        "model": settings.default_model,
        "method": name,
        "written": write,
        "trials": [asdict(trial) for trial in trials],
    }
    outputs.write(title, "mSA", [report_tables.trial_table(trials)], content, None)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Any]:
    """Yields what to call when one more is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def add_case(
    worst: WorstCases | None,
    name: str,
    score: float,
    caption: str,
    truth: Labels,
    found: Labels,
    picture: Path | None,
) -> None:
    if worst is not None and worst.wants(score):
        image = None
        if picture is not None:
            image = ground_truth.read_rgb(picture)
            ground_truth.check_sizes(picture, image.shape[:2], "its truth", truth.shape)
        worst.add(Case(name, score, caption, draw_outlines(image, truth, found)))
