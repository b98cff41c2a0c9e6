"""A U-Net for a user's own images and masks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from segserve.train.unet_trainer import (
    MEAN,
    STD,
    STRETCH_PERCENTILES,
    UnetRecipe,
    UnetTrainer,
    fit,
    stretch_image,
)

ARCHITECTURE = "unet"
TOLERANCE = 1e-3  # largest error over the largest value


@dataclass(frozen=True)
class TrainUnetOptions:
    """features: channels of the U-Net's levels. classes: names of the masks' values from 1; with a single class
    every value but 0 is it. patience: looks at the images held out, without a better Dice, before training stops.
    workers: processes that cut windows."""

    features: tuple[int, ...] = (16, 32, 64, 128)
    classes: tuple[str, ...] = ("foreground",)
    steps: int = 3000
    batch: int = 8
    window: int = 256
    rate: float = 1e-3
    seed: int = 0
    patience: int = 10
    device: str = "cpu"
    workers: int = 1

    @property
    def recipe(self) -> UnetRecipe:
        every = max(1, min(100, self.steps // 10))
        return UnetRecipe(
            self.steps, self.batch, self.window, self.rate, self.seed, every=every, patience=self.patience
        )


def train_unet_bundle(
    learn: list[LabelledImage],
    held_out: list[LabelledImage],
    target: OutputTarget,
    options: TrainUnetOptions,
    about: ModelCard,
    *,
    resume: bool = False,
    progress: TrainingProgress,
) -> Bundle:
    """A U-Net from zero, trained on `learn`, the best weights by `held_out` put in place. Raises BadInput before
    anything is trained or written where it cannot work."""
    target.check()
    check_options(learn + held_out, options)
    device = check_device(options.device)
    run = RunFolder(target.run, run_settings(learn + held_out, options), resume=resume)
    torch.manual_seed(options.seed)
    network = FeatureListUNet(3, len(options.classes), options.features)
    training = UnetTrainer(network, len(options.classes), options.recipe, device)
    if resume:
        training.load(load_checkpoint(run.checkpoint))

    def on_look(line: dict[str, float]) -> None:
        run.log(line)
        plot_curves(run.scores(), run.folder / CURVES_FILE)
        save_checkpoint(training.state(), run.checkpoint)
        progress.scores(line)

    fit(
        training,
        [stretch_image(each) for each in learn],
        [stretch_image(each) for each in held_out],
        workers=options.workers,
        on_step=lambda step, loss: progress.steps(step, options.steps, {"loss": loss}),
        on_look=on_look,
    )
    progress.stage("writing the bundle and comparing it with its network")
    with new_bundle(target.models_dir, target.name, replace=target.replace) as staging:
        write_unet_bundle(training.network, staging, build_manifest(target.name, options, about))
    return Bundle(target.models_dir / target.name)


def check_options(found: Sequence[LabelledImage], options: TrainUnetOptions) -> None:
    """Raises BadInput for masks and windows that do not fit the options."""
    multiple = 2 ** len(options.features)
    if options.window % multiple or options.window < 2 * multiple:
        raise BadInput(
            f"A window of {options.window} pixels does not fit {len(options.features)} levels.",
            field="window",
            remedy=f"Give a multiple of {multiple}, {2 * multiple} or more.",
        )
    count = len(options.classes)
    for each in found:
        if count > 1 and each.mask.max() > count:
            raise BadInput(
                f"The mask of {each.name} has the value {each.mask.max()}, and there are {count} classes.",
                field="classes",
                remedy="Name a class for every value from 1, or give a single one for masks of objects.",
            )


def run_settings(found: list[LabelledImage], options: TrainUnetOptions) -> dict[str, Any]:
    """What makes a run this run and no other."""
    asked = {name: value for name, value in asdict(options).items() if name not in ("device", "workers")}
    asked |= {name: list(asked[name]) for name in ("features", "classes")}
    return {"kind": "unet", "data": dataset_folder.digest_images(found), **asked}


def build_manifest(name: str, options: TrainUnetOptions, about: ModelCard) -> SemanticManifest:
    multiple = 2 ** len(options.features)
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
        multiple=multiple,
        files={},
        **vars(about),
    )


def write_unet_bundle(network: nn.Module, staging: Any, like: SemanticManifest) -> Bundle:
    """The weights, batch norms folded into them, are rounded to fp16. Raises BrokenModel where the graph does not
    compute what the network does."""
    folded = fold_batch_norms(network.cpu())
    round_to_fp16(folded)
    bundle = export_semantic(folded, staging, like, fp16_weights=True)
    height, width = like.tile
    image = torch.randn(1, like.input.channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = folded(image).numpy()
    found = SemanticModel(bundle, RuntimeOptions(threads=count_cores())).run(image.numpy())
    check_error("graph", error_over_max(found, expected), TOLERANCE)
    return bundle
