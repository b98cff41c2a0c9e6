"""`segserve evaluate`: scores of masks, or of a model, on a user's own images with ground truth."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from segserve import logs
from segserve.errors import BadInput
from segserve.evaluate.cli_choices import DEFAULT_STEPS, Correction, FirstPrompt, MapKind
from segserve.progress_bar import count_progress
from segserve.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Score masks, or a model, on images with ground truth.")

Images = Annotated[Path, typer.Argument(help="Folder of images.")]
Truth = Annotated[
    Path, typer.Argument(help="Folder of the true maps: PNG, TIFF or .npy, named as the images are.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", envvar="SEGSERVE_DEFAULT_MODEL", help="Which model [default: starter]."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all scores to this file.")]
PageFile = Annotated[
    Path | None,
    typer.Option("--page", help="Write a page of overlays, worst cases first, to this file (.html)."),
]
Ignore = Annotated[int | None, typer.Option(help="Value of the truth whose pixels do not count.")]
SpacingOption = Annotated[
    str | None,
    typer.Option(
        "--spacing", help="Millimetres a pixel: one number, or down,across; distances are then in mm."
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(envvar="SEGSERVE_DATA_DIR", help="Models are in its folder 'models'.")
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", help="name=value of the method; may be repeated.")
]


@app.command("masks")
def evaluate_masks(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted maps: PNG, TIFF or .npy.")],
    truth: Truth,
    kind: Annotated[MapKind, typer.Option(help="What the maps' values mean.")] = MapKind.LABELS,
    ignore: Ignore = None,
    spacing: SpacingOption = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, for the page to draw on.")
    ] = None,
    json: JsonFile = None,
    page: PageFile = None,
) -> None:
    """Compare two folders of label maps, class maps or masks."""
    from segserve.evaluate import run_evaluation

    evaluation = run_evaluation.Evaluation(
        kind, ignore, *parse_spacing(spacing), run_evaluation.OutputFiles(json, page)
    )
    run_evaluation.evaluate_masks(predictions, truth, evaluation, images)


@app.command("model")
def evaluate_model(
    images: Images,
    truth: Truth,
    method: Annotated[str, typer.Option(help="How the model segments: ais, amg, semantic or instances.")],
    model: ModelName = None,
    kind: Annotated[
        MapKind | None,
        typer.Option(
            help="What is compared [default: classes for semantic, else labels]. binary: object or not."
        ),
    ] = None,
    param: ParamOption = None,
    ignore: Ignore = None,
    spacing: SpacingOption = None,
    json: JsonFile = None,
    page: PageFile = None,
    data_dir: DataDir = None,
) -> None:
    """Run a model over a folder of images, and score its predictions."""
    from segserve.evaluate import run_evaluation
    from segserve.evaluate.model_runner import METHODS, get_by_name

    settings = load_quiet_settings(data_dir, model)
    map_kind = kind or get_by_name(METHODS, method).map_kind
    evaluation = run_evaluation.Evaluation(
        map_kind, ignore, *parse_spacing(spacing), run_evaluation.OutputFiles(json, page)
    )
    params = dict(parse_assignment(text) for text in param or [])
    asyncio.run(run_evaluation.evaluate_model(settings, images, truth, method, params, evaluation))


@app.command("prompts")
def evaluate_prompts(
    images: Images,
    truth: Truth,
    model: ModelName = None,
    start: Annotated[
        list[FirstPrompt] | None,
        typer.Option(help="Begin with a point or a box; may be repeated [default: both]."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, max=64, help="Number of predictions, the first one included.")
    ] = DEFAULT_STEPS,
    correction: Annotated[
        Correction,
        typer.Option(
            help="pairs: random clicks on both errors, as micro-sam. deepest: one click on the larger."
        ),
    ] = Correction.PAIRS,
    min_size: Annotated[int, typer.Option(min=1, help="Pixels; smaller objects are left out.")] = 1,
    raw: Annotated[bool, typer.Option("--raw", help="The model's own masks, not cleaned.")] = False,
    json: JsonFile = None,
    page: PageFile = None,
    data_dir: DataDir = None,
) -> None:
    """Prompt every object of the truth with a point and with its box, and correct the predictions step by step,
    with and without the last mask as prompt."""
    from segserve.evaluate import run_evaluation
    from segserve.evaluate.iterative_prompting import PromptingProtocol

    protocols = [
        PromptingProtocol(first_prompt, with_mask, steps, correction)
        for first_prompt in dict.fromkeys(start or list(FirstPrompt))
        for with_mask in (False, True)
    ]
    settings, outputs = load_quiet_settings(data_dir, model), run_evaluation.OutputFiles(json, page)
    asyncio.run(
        run_evaluation.evaluate_prompts(settings, images, truth, protocols, min_size, outputs, raw=raw)
    )


@app.command("compare")
def compare_models(
    images: Images,
    truth: Truth,
    model: Annotated[
        list[str], typer.Option("--model", help="A semantic or a promptable model; repeat it for others.")
    ],
    kind: Annotated[
        MapKind, typer.Option(help="binary: object or not. classes: the truth's values are classes.")
    ] = MapKind.BINARY,
    spacing: SpacingOption = None,
    json: JsonFile = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare models on the same images: Dice, IoU, Hausdorff distances, parameters, time.

    Semantic models get the image alone. Promptable ones get the box of every region of the truth.
    """
    from segserve.evaluate import run_evaluation
    from segserve.evaluate.compare_models import compare_models

    settings, outputs = load_quiet_settings(data_dir, None), run_evaluation.OutputFiles(json)
    asyncio.run(compare_models(settings, images, truth, model, kind, parse_spacing(spacing), outputs, table))


@app.command("search")
def search_parameters(
    images: Images,
    truth: Truth,
    method: Annotated[str, typer.Option(help="Whose thresholds: ais or amg.")],
    model: ModelName = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="name=value,value,... instead of that parameter's own; may be repeated."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Make the best the model's defaults.")] = False,
    json: JsonFile = None,
    data_dir: DataDir = None,
) -> None:
    """Search the best thresholds for a folder of images (by mSA). Only the post-processing is repeated."""
    from segserve.evaluate import run_evaluation

    replaced = dict(parse_assignment(text, several=True) for text in grid or [])
    settings, outputs = load_quiet_settings(data_dir, model), run_evaluation.OutputFiles(json)
    asyncio.run(
        run_evaluation.search_parameters(settings, images, truth, method, replaced, outputs, write=write)
    )
    if write:
        typer.secho(f"{settings.default_model}: the best are its defaults now", fg="green")


@app.command("tracks")
def evaluate_tracks(
    result: Annotated[
        Path,
        typer.Argument(
            help="Zip of `segserve track`, folder of masks and res_track.txt, or folder of NAME_RES."
        ),
    ],
    truth: Annotated[
        Path, typer.Argument(help="Folder with TRA and SEG of the Cell Tracking Challenge, or of NAME_GT.")
    ],
    json: JsonFile = None,
) -> None:
    """Score tracks by SEG, DET and TRA of the Cell Tracking Challenge."""
    from segserve.evaluate import report_tables, run_evaluation, track_scores

    outputs = run_evaluation.OutputFiles(json)
    outputs.check_writable()
    sequences = track_scores.find_sequences(result, truth)
    scores = {}
    with count_progress("sequences", len(sequences)) as advance:
        for sequence in sequences:
            scores[sequence.name] = track_scores.score_sequence(sequence)
            advance()
    rows = report_tables.track_table(scores)
    outputs.write(f"{result} against {truth}", "", [rows], {"sequences": scores}, None)


def load_quiet_settings(data_dir: Path | None, model: str | None) -> Settings:
    """Load the settings, and log errors alone, so that the table stays readable."""
    settings = load_settings(data_dir=data_dir, default_model=model)
    logs.configure_logging(settings.log_format, "error")
    return settings


def parse_spacing(text: str | None) -> tuple[tuple[float, float], str]:
    """Return ((down, across), unit): millimetres a pixel, or pixels without a text. Raises BadInput."""
    if text is None:
        return (1.0, 1.0), "px"
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise BadInput(
            f"{text!r} is not a spacing.",
            field="--spacing",
            remedy="Give millimetres a pixel: 0.5, or 0.5,0.65.",
        )
    return (values[0], values[-1]), "mm"


def parse_assignment(text: str, *, several: bool = False) -> tuple[str, Any]:
    """Parse name=value, or with `several` name=value,value,... into (name, value or list of values).

    Raises BadInput.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise BadInput(f"{text!r} has no value.", field=name or "--param", remedy="Write name=value.")
    return name, [parse_value(part) for part in values.split(",")] if several else parse_value(values)


def parse_value(text: str) -> Any:
    """Parse a JSON list or object, or a number; any other text stays text."""
    if text[0] in "[{":
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            continue
    return text
