"""A run that fine-tunes a promptable bundle on a user's own images and masks: `segserve train promptable`."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from segserve.automatic.parameters import resolve_ais_params
from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.models.manifest import AisEntry, Subject
from segserve.train import dataset_folder
from segserve.train.augmentation import ColourAugmentation
from segserve.train.best_weights import BestWeights
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
from segserve.train.training_summary import TrainedModel, TrainingSummary, mean_score

MAX_VALIDATED_OBJECTS = 64  # of an image
MIN_WINDOW_PX = 64
# The scores of a validation whose mean says what is best: clicks, boxes and automatic segmentation count the same.
JUDGED_BY = ("click", "box", "msa")


@dataclass(frozen=True)
class TrainPromptableOptions:
    """The options of a run. None means a default that suits the model, see `with_defaults`.

    batch_size: windows a step.
    window_px: the window's edge, in input pixels.
    learning_rate: the peak.
    validation_share: the part of the images that is held out.
    num_workers: processes that cut windows.
    """

    steps: int = 400
    batch_size: int | None = None
    window_px: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    validation_share: float = 0.1
    device: str = "cpu"
    num_workers: int = 1

    def with_defaults(self, trainable: TrainableNetworks) -> "TrainPromptableOptions":
        """Replace None by values for small hardware.

        A network that takes windows gets windows. A SAM gets the learning rate that micro-sam fine-tunes with.
        """
        input_size = trainable.manifest.preprocess.input_size
        if trainable.takes_windows:
            window_px, batch_size, learning_rate = min(256, input_size), 8, 2e-4
        else:
            window_px, batch_size, learning_rate = input_size, 1, 1e-5
        return replace(
            self,
            window_px=self.window_px or window_px,
            batch_size=self.batch_size or batch_size,
            learning_rate=self.learning_rate or learning_rate,
        )

    @property
    def validation_interval(self) -> int:
        """Steps from one validation to the next; each is followed by a checkpoint."""
        return max(1, min(100, self.steps // 10))


def fine_tune(
    images: list[LabelledImage],
    bundle: Bundle,
    target: OutputTarget,
    options: TrainPromptableOptions,
    *,
    suits: tuple[Subject, ...] = (),
    resume: bool = False,
    progress: TrainingProgress,
) -> TrainedModel:
    """Train `bundle` further on images, and install the weights that were best on the held-out images as a new bundle.

    They are those of the start where no validation was better.
    suits: what the new model is for. Left out, it is known only of a model that training did not change.

    Raises BadInput before anything is trained or written, where the run cannot work.
    """
    target.check()
    device = check_device(options.device)
    torch.manual_seed(options.seed)
    trainable = load_trainable(bundle)
    options = options.with_defaults(trainable)
    geometry = build_geometry(trainable, options.window_px or 0)
    split = dataset_folder.split_validation(images, options.validation_share)
    run = RunFolder(target.run, run_settings(bundle, images, options), resume=resume)
    if trainable.automatic_is_new and not resume:
        progress.stage("starting an automatic decoder from random weights: the model has none")
    progress.stage("measuring distances in the masks")
    preprocess = trainable.manifest.preprocess.to_preprocess()
    training, validation = ([build_scene(image, preprocess) for image in part] for part in split)
    trainable.networks.to(device)
    schedule = PromptableSchedule(options.steps, options.learning_rate or 0)
    trainer, best = PromptableTrainer(trainable.networks, geometry, schedule, options.seed), BestWeights()
    if resume:
        state = load_checkpoint(run.checkpoint)
        best.load_state_dict(state.pop("best"))
        trainer.load_state_dict(state)
    validator = PromptableValidator(trainable, validation, trainer, best)
    run_steps(trainer, training, validator, options, run, progress)
    summary = TrainingSummary.of_validations(JUDGED_BY, run.read_scores(), best.step or 0)
    best.load_into(trainer.ema)
    progress.stage("writing the bundle and comparing it with its network")
    with new_bundle(target.models_dir, target.name, replace=target.replace) as staging:
        how = "unchanged by training" if summary.is_start else "trained further"
        about = ModelCard(
            f"{bundle.name}, {how} on {len(images)} images",
            trainable.manifest.licence,
            f"segserve train promptable --from {bundle.name}",
            suits or (trainable.manifest.suits if summary.is_start else ()),
        )
        write_promptable_bundle(trainer.ema, trainable.manifest, staging, name=target.name, about=about)
    return TrainedModel(Bundle(target.models_dir / target.name), summary)


class PromptableValidator:
    """`PromptableValidator` scores the trainer's averaged weights on held-out scenes, and keeps the best.

    An automatic decoder that begins with random weights is neither scored nor kept before its first step.
    """

    def __init__(
        self, trainable: TrainableNetworks, scenes: list[Scene], trainer: PromptableTrainer, best: BestWeights
    ) -> None:
        self._scenes, self._trainer, self.best = scenes, trainer, best
        self._ais = resolve_ais_params(trainable.manifest, AisEntry())
        self._automatic_is_new = trainable.automatic_is_new

    def validate(self) -> dict[str, float]:
        """Return the scores of the weights at the trainer's step, by name."""
        trainer = self._trainer
        is_whole = bool(trainer.step) or not self._automatic_is_new
        scores = validate_promptable(
            trainer.ema,
            self._scenes,
            trainer.geometry.preprocess,
            MAX_VALIDATED_OBJECTS,
            ais=self._ais if is_whole else None,
        )
        if is_whole:
            self.best.offer(trainer.ema, trainer.step, mean_score(scores, JUDGED_BY))
        return scores

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves, with the trainer's."""
        return {**self._trainer.state_dict(), "best": self.best.state_dict()}


def run_steps(
    trainer: PromptableTrainer,
    training: list[Scene],
    validator: PromptableValidator,
    options: TrainPromptableOptions,
    run: RunFolder,
    progress: TrainingProgress,
) -> None:
    """Run the remaining steps, with validations, checkpoints and curves."""

    def validate(losses: dict[str, list[float]]) -> None:
        scores = validator.validate()
        means = {f"loss_{name}": float(np.mean(values)) for name, values in losses.items()}
        line = {"step": trainer.step, **means, **scores}
        run.append_scores(line)
        plot_curves(run.read_scores(), run.folder / CURVES_FILE)
        progress.scores(line)

    if trainer.step == 0:
        validate({})
    loader = build_data_loader(
        UniformScenePicker(training),
        ColourAugmentation(),
        trainer.geometry,
        seed=options.seed,
        steps=range(trainer.step, options.steps),
        batch_size=options.batch_size or 1,
        num_workers=options.num_workers,
    )
    losses: dict[str, list[float]] = {}
    for batch in loader:
        latest = trainer.train_step(batch.to(options.device))
        for name, value in latest.items():
            losses.setdefault(name, []).append(value)
        progress.steps(trainer.step, options.steps, latest)
        if trainer.step % options.validation_interval == 0 or trainer.step == options.steps:
            validate(losses)  # before the checkpoint, so that a resumed run has these scores
            save_checkpoint(validator.state_dict(), run.checkpoint)
            losses = {}


def run_settings(
    bundle: Bundle, images: list[LabelledImage], options: TrainPromptableOptions
) -> dict[str, Any]:
    """Return the settings that identify a run; it can only be resumed with the same ones."""
    return {
        "kind": "promptable",
        "judged_by": list(JUDGED_BY),
        "from": bundle.digest,
        "data": dataset_folder.digest_images(images),
        "steps": options.steps,
        "batch": options.batch_size,
        "window": options.window_px,
        "rate": options.learning_rate,
        "seed": options.seed,
        "share": options.validation_share,
    }


def build_geometry(trainable: TrainableNetworks, window_px: int) -> WindowGeometry:
    """Return the geometry of the windows. Raises BadInput for a window that the network does not take."""
    # The contrast of scenes is stretched already.
    preprocess = replace(trainable.manifest.preprocess.to_preprocess(), stretch_percentiles=None)
    input_size, multiple = preprocess.input_size, 2 * trainable.stride
    if trainable.takes_windows and (window_px % multiple or not MIN_WINDOW_PX <= window_px <= input_size):
        raise BadInput(
            f"A window of {window_px} pixels does not fit this model.",
            field="window",
            remedy=f"Give a multiple of {multiple}, from {MIN_WINDOW_PX} to {input_size}.",
        )
    if not trainable.takes_windows and window_px != input_size:
        raise BadInput(
            f"{trainable.manifest.architecture} takes the whole input of {input_size} pixels, not a smaller window.",
            field="window",
            remedy="Leave --window out.",
        )
    return WindowGeometry(preprocess, window_px, trainable.stride)
