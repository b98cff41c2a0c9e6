"""A run that trains a U-Net from zero on a user's own images and masks: `segserve train unet`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.batch_norm import fold_batch_norms
from segserve.models.export.semantic import export_semantic
from segserve.models.export.torch_to_onnx import round_to_fp16
from segserve.models.importers.compare_arrays import check_error, error_over_max
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.models.manifest import ModelKind, SemanticManifest
from segserve.models.networks.unet import FeatureListUNet
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.semantic_manifest import Percentile, SemanticInput
from segserve.models.semantic_model import SemanticModel
from segserve.settings import count_cores
from segserve.train import dataset_folder
from segserve.train.checkpoint import load_checkpoint, save_checkpoint
from segserve.train.dataset_folder import LabelledImage
from segserve.train.device import check_device
from segserve.train.output_target import OutputTarget
from segserve.train.plot_curves import plot_curves
from segserve.train.progress import TrainingProgress
from segserve.train.run_folder import CURVES_FILE, RunFolder
from segserve.train.training_summary import TrainedModel, TrainingSummary
from segserve.train.unet_dataset import MEAN, STD, STRETCH_PERCENTILES, stretch_image
from segserve.train.unet_trainer import UnetRecipe, UnetTrainer, fit

ARCHITECTURE = "unet"
JUDGED_BY = ("dice",)  # the score of validations that says what is best
MAX_EXPORT_ERROR = 1e-3  # of the ONNX graph against the network, over the largest value


@dataclass(frozen=True)
class TrainUnetOptions:
    """The options of a run.

    features: channels of the U-Net's levels.
    classes: names of the masks' values from 1. A single class is every value but 0.
    batch_size: windows a step. window_px: the window's edge.
    learning_rate: the peak.
    patience: validations without a better Dice before training stops.
    num_workers: processes that cut windows.
    """

    features: tuple[int, ...] = (16, 32, 64, 128)
    classes: tuple[str, ...] = ("foreground",)
    steps: int = 3000
    batch_size: int = 8
    window_px: int = 256
    learning_rate: float = 1e-3
    seed: int = 0
    patience: int = 10
    device: str = "cpu"
    num_workers: int = 1

    @property
    def recipe(self) -> UnetRecipe:
        return UnetRecipe(
            steps=self.steps,
            batch_size=self.batch_size,
            window_px=self.window_px,
            learning_rate=self.learning_rate,
            seed=self.seed,
            validation_interval=max(1, min(100, self.steps // 10)),
            patience=self.patience,
        )

    @property
    def window_multiple(self) -> int:
        """The number that divides every input's edge: each level halves it."""
        return 2 ** len(self.features)


def train_new_unet(
    training: list[LabelledImage],
    validation: list[LabelledImage],
    target: OutputTarget,
    options: TrainUnetOptions,
    about: ModelCard,
    *,
    resume: bool = False,
    progress: TrainingProgress,
) -> TrainedModel:
    """Train a U-Net from zero, and install the weights that were best on the validation images as a bundle.

    The summary compares them with the network before its first step.

    Raises BadInput before anything is trained or written, where the run cannot work.
    """
    target.check()
    images = training + validation
    check_options(images, options)
    device = check_device(options.device)
    run = RunFolder(target.run, run_settings(images, options), resume=resume)
    torch.manual_seed(options.seed)
    network = FeatureListUNet(3, len(options.classes), options.features)
    trainer = UnetTrainer(network, len(options.classes), options.recipe, device)
    if resume:
        trainer.load_state_dict(load_checkpoint(run.checkpoint))

    def on_validation(line: dict[str, float]) -> None:
        run.append_scores(line)
        plot_curves(run.read_scores(), run.folder / CURVES_FILE)
        if trainer.step:
            save_checkpoint(trainer.state_dict(), run.checkpoint)
        progress.scores(line)

    fit(
        trainer,
        [stretch_image(image) for image in training],
        [stretch_image(image) for image in validation],
        num_workers=options.num_workers,
        on_step=lambda step, loss: progress.steps(step, options.steps, {"loss": loss}),
        on_validation=on_validation,
    )
    progress.stage("writing the bundle and comparing it with its network")
    with new_bundle(target.models_dir, target.name, replace=target.replace) as staging:
        write_unet_bundle(trainer.network, staging, build_manifest(target.name, options, about))
    summary = TrainingSummary.of_validations(JUDGED_BY, run.read_scores(), trainer.best.step or 0)
    return TrainedModel(Bundle(target.models_dir / target.name), summary)


def check_options(images: Sequence[LabelledImage], options: TrainUnetOptions) -> None:
    """Raise BadInput for a window that the network does not take, and for masks with values without a class."""
    multiple = options.window_multiple
    if options.window_px % multiple or options.window_px < 2 * multiple:
        raise BadInput(
            f"A window of {options.window_px} pixels does not fit {len(options.features)} levels.",
            field="window",
            remedy=f"Give a multiple of {multiple}, {2 * multiple} or more.",
        )
    count = len(options.classes)
    for image in images:
        if count > 1 and image.mask.max() > count:
            raise BadInput(
                f"The mask of {image.name} has the value {image.mask.max()}, and there are {count} classes.",
                field="classes",
                remedy="Name a class for every value from 1, or give a single one for masks of objects.",
            )


def run_settings(images: list[LabelledImage], options: TrainUnetOptions) -> dict[str, Any]:
    """Return the settings that identify a run; it can only be resumed with the same ones."""
    return {
        "kind": "unet",
        "data": dataset_folder.digest_images(images),
        "features": list(options.features),
        "classes": list(options.classes),
        "steps": options.steps,
        "batch": options.batch_size,
        "window": options.window_px,
        "rate": options.learning_rate,
        "seed": options.seed,
        "patience": options.patience,
    }


def build_manifest(name: str, options: TrainUnetOptions, about: ModelCard) -> SemanticManifest:
    """Return the bundle's manifest, with the preprocessing that the network was trained with."""
    low, high = STRETCH_PERCENTILES
    return SemanticManifest(
        name=name,
        kind=ModelKind.SEMANTIC,
        architecture=ARCHITECTURE,
        classes=options.classes,
        input=SemanticInput(
            channels=3,
            normalise=Percentile(
                method="percentile",
                low=low,
                high=high,
                per_channel=False,
                clip=True,
                mean=(MEAN,),
                std=(STD,),
            ),
        ),
        multiple=options.window_multiple,
        files={},
        **vars(about),
    )


def write_unet_bundle(network: nn.Module, staging: Any, like: SemanticManifest) -> Bundle:
    """Export the network as a bundle. Its weights, with batch norms folded in, are rounded to fp16.

    Raises BrokenModel where the graph does not compute what the network does.
    """
    folded = fold_batch_norms(network.cpu())
    round_to_fp16(folded)
    bundle = export_semantic(folded, staging, like, fp16_weights=True)
    height, width = like.tile
    image = torch.randn(1, like.input.channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = folded(image).numpy()
    computed = SemanticModel(bundle, RuntimeOptions(threads=count_cores())).run(image.numpy())
    check_error("graph", error_over_max(computed, expected), MAX_EXPORT_ERROR)
    return bundle
