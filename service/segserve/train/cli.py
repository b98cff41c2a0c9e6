"""`segserve train`: models trained on a user's own images and masks. It needs the extra `train`; serving does not."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from segserve.errors import BadInput
from segserve.models.manifest import Subject
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.settings import Settings, load_settings
from segserve.train import require_libraries
from segserve.train.dataset_folder import read_folders, split_validation
from segserve.train.output_target import OutputTarget
from segserve.train.run_folder import CURVES_FILE
from segserve.train.training_summary import TrainedModel
from segserve.train.unet_choices import (
    AUTO_WEIGHTS,
    DEFAULT_ENCODER,
    TRANSUNET_ENCODERS,
    Architecture,
    LossName,
)
from segserve.types import Device

TITLES = {
    Architecture.UNET: "U-Net",
    Architecture.UNETPLUSPLUS: "U-Net++",
    Architecture.TRANSUNET: "TransUNet",
}

app = typer.Typer(no_args_is_help=True, help="Train models on your own images and masks.")

Images = Annotated[Path, typer.Argument(help="Folder of images.")]
Masks = Annotated[
    Path, typer.Argument(help="Folder of masks (PNG, TIFF, NPY) of the same names: 0 is background.")
]
Name = Annotated[str, typer.Option(help="What requests will call the model.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps, each on one batch of windows.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed trains the same model.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to train.")]
ValidationShare = Annotated[
    float,
    typer.Option(min=0.0, max=0.9, help="Share of the images held out for validation; at least one image."),
]
RunFolderOption = Annotated[
    Path | None,
    typer.Option("--run", help="Checkpoints, scores, curves [default: training/NAME in the data folder]."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a model of the same name.")]
Suits = Annotated[list[Subject] | None, typer.Option(help="What the model is for. Can be repeated.")]
DataDir = Annotated[
    Path | None, typer.Option(envvar="SEGSERVE_DATA_DIR", help="Models are in its folder 'models'.")
]


class ProgressBar:
    """`ProgressBar` shows a bar for steps, a spinner for other stages, and prints a line for each validation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("reading images and masks", total=None)

    def stage(self, name: str) -> None:
        self._progress.update(self._task, description=name, total=None, completed=0)

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self._progress.update(self._task, description=f"training ({text})", total=total, completed=done)

    def scores(self, line: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.3f}" for name, value in line.items() if name != "step")
        self._progress.console.print(f"step {line['step']:.0f}  {text}")


@contextmanager
def show_progress() -> Iterator[ProgressBar]:
    """Show the progress on stderr."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressBar(progress)


def prepare_run(
    data_dir: Path | None, name: str, run: Path | None, replace: bool
) -> tuple[Settings, OutputTarget]:
    """Return the settings and where the run writes to.

    Raises MissingDependency, and BadInput for a name that cannot be used: before hours of training, not after them.
    """
    require_libraries()
    settings = load_settings(data_dir=data_dir)
    target = OutputTarget(settings.models_folder, name, run or settings.data_dir / "training" / name, replace)
    target.check()
    return settings, target


@app.command("promptable")
def train_promptable(
    images: Images,
    masks: Masks,
    name: Name,
    base: Annotated[
        str,
        typer.Option(
            "--from", help="The model to start from: the starter, or one imported with its weights."
        ),
    ] = "starter",
    steps: Steps = 400,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows a step (batch size) [default: 8; 1 for a SAM].")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Edge of a window, in pixels of the model's input [default: 256; all of it for a SAM]."
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0.0, help="Peak learning rate [default: 2e-4; 1e-5 for a SAM].")
    ] = None,
    seed: Seed = 0,
    validation: ValidationShare = 0.1,
    device: DeviceOption = Device.CPU,
    run: RunFolderOption = None,
    resume: Resume = False,
    replace: Replace = False,
    suits: Suits = None,
    data_dir: DataDir = None,
) -> None:
    """Fine-tune a promptable model: clicks, boxes and automatic segmentation.

    A mask has a number for each object, from 1. The defaults suit two CPU cores. The weights that are best on held-out
    images are kept: by the mean of the IoU after a click, the IoU after a box, and automatic segmentation's mSA.
    """
    settings, target = prepare_run(data_dir, name, run, replace)
    from segserve.train.train_promptable import TrainPromptableOptions, fine_tune

    bundle = ModelRegistry(
        [target.models_dir, BUILT_IN_MODELS], RuntimeOptionsByGraph(), budget_bytes=0
    ).bundle(base)
    options = TrainPromptableOptions(
        steps=steps,
        batch_size=batch,
        window_px=window,
        learning_rate=lr,
        seed=seed,
        validation_share=validation,
        device=device.value,
    )
    with show_progress() as progress:
        labelled = read_folders(images, masks, settings.image_limits.max_pixels)
        trained = fine_tune(
            labelled, bundle, target, options, suits=tuple(suits or ()), resume=resume, progress=progress
        )
    report_ready(trained, target, start=bundle.name)


@app.command("unet")
def train_unet(
    images: Images,
    masks: Masks,
    name: Name,
    classes: Annotated[
        str,
        typer.Option(
            help="Names of the masks' values from 1, separated by commas. A single name is for every value but 0."
        ),
    ] = "foreground",
    architecture: Annotated[
        Architecture, typer.Option(help="The network. A transunet takes windows of one size.")
    ] = Architecture.UNET,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Of unet and unetplusplus: one of segmentation-models-pytorch [default: plain convolutions; "
            f"{DEFAULT_ENCODER[Architecture.UNETPLUSPLUS]}]. Of transunet: {', '.join(TRANSUNET_ENCODERS)}."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Channels of the levels, the image's own size first; the original U-Net's are 64,128,256,512 "
            "[default: 16,32,64,128; of a decoder 16,32,64,128,256; of transunet's 16,64,128,256]."
        ),
    ] = None,
    loss: Annotated[LossName, typer.Option(help="What is minimised.")] = LossName.BCE_DICE,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of the background and of each class, such as 1,4; or auto, from how often each is there."
        ),
    ] = None,
    steps: Steps = 3000,
    batch: Annotated[int, typer.Option(min=1, help="Windows a step (batch size).")] = 8,
    window: Annotated[int, typer.Option(help="Edge of a window, in pixels.")] = 256,
    lr: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 1e-3,
    patience: Annotated[
        int, typer.Option(min=1, help="Early stopping: validations (every 100 steps) without a better Dice.")
    ] = 10,
    seed: Seed = 0,
    validation: ValidationShare = 0.1,
    device: DeviceOption = Device.CPU,
    run: RunFolderOption = None,
    resume: Resume = False,
    replace: Replace = False,
    suits: Suits = None,
    data_dir: DataDir = None,
) -> None:
    """Train a U-Net, U-Net++ or TransUNet from zero: a class for every pixel.

    The weights with the best Dice on held-out images are kept.
    """
    settings, target = prepare_run(data_dir, name, run, replace)
    from segserve.models.importers.import_request import ModelCard
    from segserve.train.train_unet import TrainUnetOptions, read_checkpoint, train_new_unet

    if resume:
        read_checkpoint(target.run)  # what cannot be continued is told before images are read
    options = TrainUnetOptions(
        architecture=architecture,
        encoder=encoder,
        features=None if features is None else parse_features(features),
        classes=parse_class_names(classes),
        loss=loss,
        class_weights=None if class_weights is None else parse_class_weights(class_weights),
        steps=steps,
        batch_size=batch,
        window_px=window,
        learning_rate=lr,
        seed=seed,
        patience=patience,
        device=device.value,
    )
    with show_progress() as progress:
        labelled = read_folders(images, masks, settings.image_limits.max_pixels, len(options.classes))
        split = split_validation(labelled, validation)
        about = ModelCard(
            f"{TITLES[architecture]} trained on {len(labelled)} images",
            "",
            "segserve train unet",
            tuple(suits or ()),
        )
        trained = train_new_unet(*split, target, options, about, resume=resume, progress=progress)
    report_ready(trained, target, start="the untrained network")


def parse_features(text: str) -> tuple[int, ...]:
    """Parse "16,32,64,128" into numbers of channels. Raises BadInput."""
    numbers = tuple(int(part) for part in text.split(",") if part.strip().isdigit())
    if (
        len(numbers) != text.count(",") + 1
        or not 1 <= len(numbers) <= 6
        or not all(1 <= n <= 1024 for n in numbers)
    ):
        raise BadInput(
            f"{text!r} is not one to six numbers of channels, 1 to 1024.",
            field="features",
            remedy="Example: 16,32,64,128.",
        )
    return numbers


def parse_class_weights(text: str) -> tuple[float, ...] | str:
    """Parse "auto", or "1,4.5" into weights. Raises BadInput."""
    if text == AUTO_WEIGHTS:
        return text
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if not any(weights) or not all(0 <= weight < math.inf for weight in weights):
        raise BadInput(
            f"{text!r} are not weights of classes.",
            field="class_weights",
            remedy="Example: 1,4 for the background and one class; or auto.",
        )
    return weights


def parse_class_names(text: str) -> tuple[str, ...]:
    """Parse "cell,debris" into names. Raises BadInput."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise BadInput(
            f"{text!r} is not a list of different names.", field="classes", remedy="Example: cell,debris."
        )
    return names


def report_ready(trained: TrainedModel, target: OutputTarget, *, start: str) -> None:
    """Print that the model can be used, what the training has gained over `start`, and where the curves are."""
    summary = trained.summary
    step, scores = f"{summary.best['step']:.0f}", summary.describe_scores()
    if summary.improved:
        typer.echo(f"Best on the held-out images: step {step} of {summary.steps}, {scores}.")
    else:
        kept = f"the weights of {start} are kept" if summary.is_start else f"step {step} is kept"
        typer.secho(f"Nothing improved over {start} in {summary.steps} steps: {kept}, {scores}.", fg="yellow")
        typer.secho("More images, another --lr or more --steps may help.", fg="yellow")
    typer.secho(f"{trained.bundle.name}: ready; its curves are in {target.run / CURVES_FILE}", fg="green")
