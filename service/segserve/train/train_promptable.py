"""A promptable bundle trained further on a user's own images and masks."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.train import dataset_folder
from segserve.train.augmentation import ColourAugmentation
from segserve.train.checkpoint import load_checkpoint, save_checkpoint
from segserve.train.dataset_folder import LabelledImage
from segserve.train.device import check_device
from segserve.train.output_target import OutputTarget
from segserve.train.plot_curves import plot_curves
from segserve.train.progress import TrainingProgress
from segserve.train.promptable_dataset import UniformScenePicker, WindowGeometry, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.promptable_validation import validate_promptable
from segserve.train.run_folder import CURVES_FILE, RunFolder
from segserve.train.scenes import Scene, build_scene
from segserve.train.trainable_networks import TrainableNetworks, load_trainable, write_promptable_bundle

MAX_VALIDATED_OBJECTS = 64  # objects of an image


@dataclass(frozen=True)
class TrainPromptableOptions:
    """window: input pixels, None for what suits the model; so are batch (windows a step) and rate. share: of the
    images, held out to judge by. workers: processes that cut windows."""

    steps: int = 400
    batch: int | None = None
    window: int | None = None
    rate: float | None = None
    seed: int = 0
    share: float = 0.1
    device: str = "cpu"
    workers: int = 1

    def filled(self, start: TrainableNetworks) -> "TrainPromptableOptions":
        """What was left open, for small hardware: windows where the network takes windows; for a SAM the learning
        rate that μSAM fine-tunes with."""
        whole = start.manifest.preprocess.input_size
        window, batch, rate = (min(256, whole), 8, 2e-4) if start.windows else (whole, 1, 1e-5)
        return replace(self, window=self.window or window, batch=self.batch or batch, rate=self.rate or rate)

    @property
    def every(self) -> int:
        """Steps between two looks at the images held out, each with a checkpoint."""
        return max(1, min(100, self.steps // 10))


def fine_tune(
    found: list[LabelledImage],
    bundle: Bundle,
    target: OutputTarget,
    options: TrainPromptableOptions,
    *,
    resume: bool = False,
    progress: TrainingProgress,
) -> Bundle:
    """`bundle`, trained further on these images and put in place. Raises BadInput before anything is trained or
    written where it cannot work."""
    target.check()
    device = check_device(options.device)
    torch.manual_seed(options.seed)
    start = load_trainable(bundle)
    options = options.filled(start)
    geometry = window_geometry(start, options.window or 0)
    learn, held_out = dataset_folder.split_validation(found, options.share)
    run = RunFolder(target.run, run_settings(bundle, found, options), resume=resume)
    if start.fresh and not resume:
        progress.stage("beginning an automatic decoder from nothing: the model has none to train on")
    progress.stage("measuring distances in the masks")
    preprocess = start.manifest.preprocess.to_preprocess()
    scenes, validation = ([build_scene(each, preprocess) for each in part] for part in (learn, held_out))
    start.networks.to(device)
    training = PromptableTrainer(
        start.networks, geometry, PromptableSchedule(options.steps, options.rate or 0), options.seed
    )
    if resume:
        training.load(load_checkpoint(run.checkpoint))
    run_steps(training, scenes, validation, options, run, progress)
    progress.stage("writing the bundle and comparing it with its network")
    with new_bundle(target.models_dir, target.name, replace=target.replace) as staging:
        about = ModelCard(
            f"{bundle.name}, trained further on {len(found)} images",
            start.manifest.licence,
            f"segserve train promptable --from {bundle.name}",
        )
        write_promptable_bundle(training.averaged, start.manifest, staging, name=target.name, about=about)
    return Bundle(target.models_dir / target.name)


def run_steps(
    training: PromptableTrainer,
    scenes: list[Scene],
    validation: list[Scene],
    options: TrainPromptableOptions,
    run: RunFolder,
    progress: TrainingProgress,
) -> None:
    """The steps that are left, with checkpoints, scores and curves."""

    def look(losses: dict[str, list[float]]) -> None:
        scores = validate_promptable(
            training.averaged, validation, training.geometry.preprocess, MAX_VALIDATED_OBJECTS
        )
        means = {f"loss_{name}": float(np.mean(values)) for name, values in losses.items()}
        line = {"step": training.step, **means, **scores}
        run.log(line)
        plot_curves(run.scores(), run.folder / CURVES_FILE)
        progress.scores(line)

    if training.step == 0:
        look({})
    steps = range(training.step, options.steps)
    loader = build_data_loader(
        UniformScenePicker(scenes),
        ColourAugmentation(),
        training.geometry,
        seed=options.seed,
        steps=steps,
        batch=options.batch or 1,
        workers=options.workers,
    )
    losses: dict[str, list[float]] = {}
    for batch in loader:
        latest = training.update(batch.to(options.device))
        for name, value in latest.items():
            losses.setdefault(name, []).append(value)
        progress.steps(training.step, options.steps, latest)
        if training.step % options.every == 0 or training.step == options.steps:
            look(losses)  # first: what is resumed from here has been judged
            save_checkpoint(training.state(), run.checkpoint)
            losses = {}


def run_settings(
    bundle: Bundle, found: list[LabelledImage], options: TrainPromptableOptions
) -> dict[str, Any]:
    """What makes a run this run and no other."""
    asked = {name: value for name, value in asdict(options).items() if name not in ("device", "workers")}
    return {"kind": "promptable", "from": bundle.digest, "data": dataset_folder.digest_images(found), **asked}


def window_geometry(start: TrainableNetworks, window: int) -> WindowGeometry:
    """Raises BadInput for a window that the network does not take."""
    preprocess = replace(
        start.manifest.preprocess.to_preprocess(), stretch_percentiles=None
    )  # of scenes: done already
    whole = preprocess.input_size
    if start.windows and (window % (2 * start.stride) or not 64 <= window <= whole):
        raise BadInput(
            f"A window of {window} pixels does not fit this model.",
            field="window",
            remedy=f"Give a multiple of {2 * start.stride}, from 64 to {whole}.",
        )
    if not start.windows and window != whole:
        raise BadInput(
            f"{start.manifest.architecture} sees {whole} pixels, no window of {window}.",
            field="window",
            remedy="Leave --window out.",
        )
    return WindowGeometry(preprocess, window, start.stride)
