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
from segserve.evaluate import dataset_folders, interactive_protocol, parameter_search, report_tables
from segserve.evaluate.cli_choices import Kind
from segserve.evaluate.dataset_folders import Pair
from segserve.evaluate.hausdorff import Spacing
from segserve.evaluate.html_page import Case, Worst, draw, render
from segserve.evaluate.interactive_protocol import Course, Protocol
from segserve.evaluate.model_runner import METHODS, Runner, check_params, running
from segserve.evaluate.object_matching import mean_accuracy
from segserve.evaluate.scores import FIRST, Scores, as_json, judge, summarise
from segserve.masks.label_map import Labels
from segserve.settings import Settings


@dataclass(frozen=True)
class Outputs:
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

    def worst(self) -> Worst | None:
        return None if self.page is None else Worst()

    def write(
        self,
        title: str,
        score: str,
        tables: Sequence[report_tables.Rows],
        content: dict[str, Any],
        worst: Worst | None,
    ) -> None:
        """Show the tables, and write what was asked for. score: what the page's cases are worst by."""
        for index, rows in enumerate(tables):
            report_tables.show(title if index == 0 else "", rows)
        if self.json is not None:
            report_tables.write_json(self.json, content)
        if self.page is not None and worst is not None:
            self.page.write_text(render(title, score, tables, worst), encoding="utf-8")


class Jury:
    """Judges one image after another, and reports on all. unit: of distances."""

    def __init__(self, kind: Kind, ignore: int | None, spacing: Spacing, unit: str, outputs: Outputs) -> None:
        outputs.check()
        self._kind, self._ignore, self._outputs = kind, ignore, outputs
        self._spacing, self._unit = spacing, unit
        self._scores: list[Scores] = []
        self._worst = outputs.worst()

    def judge(self, name: str, truth: Labels, found: Labels, picture: Path | None) -> None:
        """picture: the image, for the page."""
        scores = judge(name, self._kind, truth, found, ignore=self._ignore, spacing=self._spacing)
        self._scores.append(scores)
        first, caption = scores.values[FIRST[self._kind]], report_tables.caption(self._kind, scores)
        add_case(self._worst, name, first, caption, truth, found, picture)

    def report(self, title: str) -> None:
        judgement = summarise(self._kind, self._scores)
        tables = [report_tables.score_table(judgement, self._unit)]
        if self._kind is Kind.CLASSES:
            tables.append(report_tables.class_table(judgement))
        content = as_json(judgement, self._unit)
        self._outputs.write(title, report_tables.worst_by(self._kind), tables, content, self._worst)


def judge_masks(predictions: Path, truths: Path, jury: Jury, images: Path | None) -> None:
    """images: for the page to draw on. Raises BadInput."""
    pairs = dataset_folders.pair(predictions, truths, images=False)
    pictures = (
        {each.name: each.path for each in dataset_folders.pair(images, truths, images=True)} if images else {}
    )
    with progress("judged", len(pairs)) as advance:
        for each in pairs:
            found, truth = dataset_folders.read_pair(each.path, each.truth)
            jury.judge(each.name, truth, found, pictures.get(each.name))
            advance()
    jury.report(f"{predictions} against {truths}")


def checked(images: Path, truths: Path) -> list[Pair]:
    """All is read once before hours of work rather than after them. Raises BadInput."""
    pairs = dataset_folders.pair(images, truths, images=True)
    with progress("checked", len(pairs)) as advance:
        for each in pairs:
            dataset_folders.check(each)
            advance()
    return pairs


async def judge_model(
    settings: Settings, images: Path, truths: Path, name: str, params: Mapping[str, Any], jury: Jury
) -> None:
    """The settings' default model, by the method `name`. Raises BadInput, and what the method raises."""
    entry = check_params(name, params)
    pairs = checked(images, truths)
    async with running(settings) as service:
        runner = Runner(service, settings.default_model)
        with progress("images", len(pairs)) as advance:
            for each in pairs:
                image_id, truth = await runner.add(each)
                found = await METHODS[name].run(service, image_id, runner.model, entry)
                await asyncio.to_thread(jury.judge, each.name, truth, found, each.path)
                await runner.drop(image_id)
                advance()
    jury.report(f"{settings.default_model} ({name}) on {images}")


async def judge_prompts(
    settings: Settings,
    images: Path,
    truths: Path,
    protocols: Sequence[Protocol],
    smallest: int,
    outputs: Outputs,
) -> None:
    """Every protocol over every image; the page shows what the first one ended with. Raises BadInput."""
    outputs.check()
    pairs = checked(images, truths)
    worst = outputs.worst()
    courses = await ask_for_all(settings, pairs, protocols, smallest, worst)
    shown = f"shown: {protocols[0].name}, step {protocols[0].steps}"
    outputs.write(
        f"{settings.default_model}, prompted, on {images}: {courses[0].objects} objects ({shown})",
        "mean IoU",
        report_tables.course_tables(courses),
        {"model": settings.default_model, "courses": [asdict(course) for course in courses]},
        worst,
    )


async def ask_for_all(
    settings: Settings, pairs: list[Pair], protocols: Sequence[Protocol], smallest: int, worst: Worst | None
) -> list[Course]:
    steps: list[list[list[interactive_protocol.Step]]] = [[] for _ in protocols]
    async with running(settings) as service:
        runner = Runner(service, settings.default_model)
        with progress("images, each way", len(pairs) * len(protocols)) as advance:
            for each in pairs:
                image_id, truth = await runner.add(each)
                ask = await runner.ask(image_id)
                for index, protocol in enumerate(protocols):
                    judged = await asyncio.to_thread(
                        interactive_protocol.judge_image, ask, truth, protocol, service.workers, smallest
                    )
                    steps[index].append(judged.steps)
                    last = judged.steps[-1]
                    if index == 0 and last.ious:
                        mean = sum(last.ious) / len(last.ious)
                        caption = f"{len(last.ious)} objects · mSA {mean_accuracy(last.matched):.3f}"
                        add_case(worst, each.name, mean, caption, judged.truth, judged.found, each.path)
                    advance()
    if not any(image[0].ious for image in steps[0]):
        raise BadInput(
            f"No truth has an object of {smallest} pixels or more.",
            field=str(pairs[0].truth.parent),
            remedy="Name label maps whose objects have values above 0.",
        )
    return [
        interactive_protocol.summarise(protocol, each)
        for protocol, each in zip(protocols, steps, strict=True)
    ]


async def search_parameters(
    settings: Settings,
    images: Path,
    truths: Path,
    name: str,
    grid: parameter_search.Grid,
    outputs: Outputs,
    *,
    write: bool,
) -> None:
    """write: the best become the model's defaults. Raises BadInput, and what the method raises."""
    outputs.check()
    wanted = parameter_search.grid_of(name, grid)
    pairs = checked(images, truths)
    async with running(settings) as service:
        runner = Runner(service, settings.default_model)
        added = [await runner.add(each) for each in pairs]
        with progress("tried", len(added) * len(parameter_search.settings(wanted))) as advance:
            trials = await parameter_search.search(runner, added, name, wanted, advance)
        if write:
            bundle = service.registry.bundle(settings.default_model)
            parameter_search.write_best(settings.data_dir / "models", bundle, name, trials[0].params)
    title = f"{settings.default_model} ({name}) on {images}: the best of {len(trials)}, and the worst"
    content = {
        "model": settings.default_model,
        "method": name,
        "written": write,
        "trials": [asdict(trial) for trial in trials],
    }
    outputs.write(title, "mSA", [report_tables.trial_table(trials)], content, None)


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """Yields what to call when one more is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def add_case(
    worst: Worst | None,
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
            image = dataset_folders.read_picture(picture)
            dataset_folders.check_sizes(picture, image.shape[:2], "its truth", truth.shape)
        worst.add(Case(name, score, caption, draw(image, truth, found)))
