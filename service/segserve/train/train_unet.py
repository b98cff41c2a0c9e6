"""A run that trains a U-Net, U-Net++ or TransUNet from zero on a user's own images and masks: `segserve train unet`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
from segserve.models.networks.transunet import fold_standardised_weights
from segserve.models.runtime.runtime_options import RuntimeOptions
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
from segserve.train.run_folder import CHECKPOINT_FILE, CURVES_FILE, RunFolder
from segserve.train.training_summary import TrainedModel, TrainingSummary
from segserve.train.unet_choices import (
    AUTO_WEIGHTS,
    DEFAULT_ENCODER,
    DEFAULT_FEATURES,
    Architecture,
    LossName,
)
from segserve.train.unet_dataset import MEAN, STD, STRETCH_PERCENTILES, stretch_image
from segserve.train.unet_losses import UnetLoss, median_frequency_weights
from segserve.train.unet_networks import build_network, input_multiple
from segserve.train.unet_trainer import UnetRecipe, UnetTrainer, check_state, fit

JUDGED_BY = ("dice",)  # the score of validations that says what is best
MAX_EXPORT_ERROR = 1e-3  # of the ONNX graph against the network, over the largest value
# Of what is exported, in fp16 and with its norms folded, against the network that was trained.
MAX_ROUNDING_ERROR = 5e-2
# What `train unet` did before it had these settings.
OLDER_DEFAULTS = {"architecture": "unet", "encoder": None, "loss": "bce-dice", "class_weights": None}


@dataclass(frozen=True)
class TrainUnetOptions:
    """The options of a run.

    architecture, encoder, features: of the network, see `build_network`; None takes the architecture's own.
    classes: names of the masks' values from 1. A single class is every value but 0.
    loss, class_weights: see `unet_losses`; weights of the background and of each class, or "auto".
    batch_size: windows a step. window_px: the window's edge.
    learning_rate: the peak.
    patience: validations without a better Dice before training stops.
    num_workers: processes that cut windows.
    """

    architecture: Architecture = Architecture.UNET
    encoder: str | None = None
    features: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ("foreground",)
    loss: LossName = LossName.BCE_DICE
    class_weights: tuple[float, ...] | str | None = None
    steps: int = 3000
    batch_size: int = 8
    window_px: int = 256
    learning_rate: float = 1e-3
    seed: int = 0
    patience: int = 10
    device: str = "cpu"
    num_workers: int = 1

    @property
    def network_encoder(self) -> str | None:
        return self.encoder or DEFAULT_ENCODER.get(self.architecture)

    @property
    def network_features(self) -> tuple[int, ...]:
        if self.features is None and self.architecture is Architecture.UNET and self.encoder:
            return DEFAULT_FEATURES[Architecture.UNETPLUSPLUS]
        return self.features or DEFAULT_FEATURES[self.architecture]

    @property
    def architecture_name(self) -> str:
        """For example "unetplusplus:resnet18", as manifests name it."""
        return str(self.architecture) + (f":{self.network_encoder}" if self.network_encoder else "")

    @property
    def window_multiple(self) -> int:
        """The number that divides every input's edge."""
        return input_multiple(self.architecture, self.network_features)

    def build_network(self) -> Any:
        """Return the network with random weights. Raises BadInput for options that do not fit each other."""
        return build_network(
            self.architecture, self.network_encoder, self.network_features, len(self.classes), self.window_px
        )

    def build_recipe(self, training: Sequence[LabelledImage]) -> UnetRecipe:
        """Return the settings of a run on these images."""
        weights = self.class_weights
        if isinstance(weights, str):
            weights = median_frequency_weights([each.mask for each in training], len(self.classes))
        return UnetRecipe(
            steps=self.steps,
            batch_size=self.batch_size,
            window_px=self.window_px,
            learning_rate=self.learning_rate,
            seed=self.seed,
            validation_interval=max(1, min(100, self.steps // 10)),
            patience=self.patience,
            loss=UnetLoss(self.loss, weights),
        )


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
    """Train a network from zero, and install the weights that were best on the validation images as a bundle.

    The summary compares them with the network before its first step.

    Raises BadInput before anything is trained or written, where the run cannot work.
    """
    target.check()
    images = training + validation
    check_options(images, options)
    device = check_device(options.device)
    state = read_checkpoint(target.run) if resume else None
    torch.manual_seed(options.seed)
    network = options.build_network()
    run = RunFolder(target.run, run_settings(images, options), resume=resume, older_defaults=OLDER_DEFAULTS)
    trainer = UnetTrainer(network, len(options.classes), options.build_recipe(training), device)
    if state is not None:
        trainer.load_state_dict(state)

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


def read_checkpoint(run: Path) -> dict[str, Any] | None:
    """Return the state that a run's folder holds, None where it has no checkpoint.

    Raises BadInput for a file that is none, and for one that another version wrote.
    """
    path = run / CHECKPOINT_FILE
    if not path.is_file():
        return None
    state = load_checkpoint(path)
    check_state(state, path)
    return state


def check_options(images: Sequence[LabelledImage], options: TrainUnetOptions) -> None:
    """Raise BadInput for a window that the network does not take, weights that do not fit, values without a class."""
    multiple = options.window_multiple
    if options.window_px % multiple or options.window_px < 2 * multiple:
        raise BadInput(
            f"A window of {options.window_px} pixels does not fit {options.architecture_name}.",
            field="window",
            remedy=f"Give a multiple of {multiple}, {2 * multiple} or more.",
        )
    count, weights = len(options.classes), options.class_weights
    if weights is not None and options.loss is LossName.GENERALISED_DICE:
        raise BadInput(
            "Generalised Dice weighs the classes itself.", field="class_weights", remedy="Leave it out."
        )
    if weights is not None and weights != AUTO_WEIGHTS and len(weights) != count + 1:
        raise BadInput(
            f"There are {len(weights)} class weights, for the background and {count} classes.",
            field="class_weights",
            remedy=f"Give {count + 1} numbers, the background's first, or {AUTO_WEIGHTS}.",
        )
    for image in images:
        if count > 1 and image.mask.max() > count:
            raise BadInput(
                f"The mask of {image.name} has the value {image.mask.max()}, and there are {count} classes.",
                field="classes",
                remedy="Name a class for every value from 1, or give a single one for masks of objects.",
            )


def run_settings(images: list[LabelledImage], options: TrainUnetOptions) -> dict[str, Any]:
    """Return the settings that identify a run; it can only be resumed with the same ones."""
    weights = options.class_weights
    return {
        "kind": "unet",
        "data": dataset_folder.digest_images(images),
        "architecture": str(options.architecture),
        "encoder": options.network_encoder,
        "features": list(options.network_features),
        "classes": list(options.classes),
        "loss": str(options.loss),
        "class_weights": list(weights) if isinstance(weights, tuple) else weights,
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
    # A TransUNet takes images of one size: a sliding window's tiles.
    is_fixed = options.architecture is Architecture.TRANSUNET
    tiles: dict[str, Any] = {"tile": (options.window_px,) * 2, "fixed": True} if is_fixed else {}
    return SemanticManifest(
        name=name,
        kind=ModelKind.SEMANTIC,
        architecture=options.architecture_name,
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
        **tiles,
        **vars(about),
    )


def write_unet_bundle(network: nn.Module, staging: Any, like: SemanticManifest) -> Bundle:
    """Export the network as a bundle. Its weights, with norms folded in, are rounded to fp16.

    Raises BrokenModel where the graph does not compute what the network does.
    """
    network = network.cpu().eval()
    folded = fold_batch_norms(fold_standardised_weights(network))
    round_to_fp16(folded)
    bundle = export_semantic(folded, staging, like, fp16_weights=True)
    height, width = like.tile
    image = torch.randn(1, like.input.channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, expected = network(image).numpy(), folded(image).numpy()
    check_error("rounded network", error_over_max(expected, trained), MAX_ROUNDING_ERROR)
    computed = SemanticModel(bundle, RuntimeOptions(threads=count_cores())).run(image.numpy())
    check_error("graph", error_over_max(computed, expected), MAX_EXPORT_ERROR)
    return bundle
