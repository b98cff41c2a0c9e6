"""A promptable bundle trained further on a user's own images and masks."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.importers import About
from segserve.models.install import new_bundle
from segserve.train import dataset_folder
from segserve.train.augment import Relight
from segserve.train.checkpoint import load, save
from segserve.train.dataset_folder import Labelled
from segserve.train.device import usable
from segserve.train.output_target import Target
from segserve.train.plot_curves import draw_curves
from segserve.train.progress import Progress
from segserve.train.promptable_step import Schedule, Training
from segserve.train.run_folder import CURVES, Run
from segserve.train.scenes import Scene, as_scene
from segserve.train.scores import judge
from segserve.train.trainable_networks import Start, trainable, write_bundle
from segserve.train.training_windows import AnyOf, Geometry, batches

MOST_JUDGED = 64  # objects of an image


@dataclass(frozen=True)
class Options:
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

    def filled(self, start: Start) -> "Options":
        """What was left open, for small hardware: windows where the network takes windows; for a SAM the learning
        rate that μSAM fine-tunes with."""
        whole = start.manifest.preprocess.input_size
        window, batch, rate = (min(256, whole), 8, 2e-4) if start.windows else (whole, 1, 1e-5)
        return replace(self, window=self.window or window, batch=self.batch or batch, rate=self.rate or rate)

    @property
    def every(self) -> int:
        """Steps between two looks at the images held out, each with a checkpoint."""
        return max(1, min(100, self.steps // 10))


def tune(
    found: list[Labelled],
    bundle: Bundle,
    target: Target,
    options: Options,
    *,
    resume: bool = False,
    progress: Progress,
) -> Bundle:
    """`bundle`, trained further on these images and put in place. Raises BadInput before anything is trained or
    written where it cannot work."""
    target.check()
    device = usable(options.device)
    torch.manual_seed(options.seed)
    start = trainable(bundle)
    options = options.filled(start)
    geometry = geometry_of(start, options.window or 0)
    learn, held_out = dataset_folder.hold_out(found, options.share)
    run = Run(target.run, settings_of(bundle, found, options), resume=resume)
    if start.fresh and not resume:
        progress.stage("beginning an automatic decoder from nothing: the model has none to train on")
    progress.stage("measuring distances in the masks")
    preprocess = start.manifest.preprocess.build()
    scenes, validation = ([as_scene(each, preprocess) for each in part] for part in (learn, held_out))
    start.networks.to(device)
    training = Training(start.networks, geometry, Schedule(options.steps, options.rate or 0), options.seed)
    if resume:
        training.load(load(run.checkpoint))
    train(training, scenes, validation, options, run, progress)
    progress.stage("writing the bundle and comparing it with its network")
    with new_bundle(target.models_dir, target.name, replace=target.replace) as staging:
        about = About(
            f"{bundle.name}, trained further on {len(found)} images",
            start.manifest.licence,
            f"segserve train promptable --from {bundle.name}",
        )
        write_bundle(training.averaged, start.manifest, staging, name=target.name, about=about)
    return Bundle(target.models_dir / target.name)


def train(
    training: Training,
    scenes: list[Scene],
    validation: list[Scene],
    options: Options,
    run: Run,
    progress: Progress,
) -> None:
    """The steps that are left, with checkpoints, scores and curves."""

    def look(losses: dict[str, list[float]]) -> None:
        scores = judge(training.averaged, validation, training.geometry.preprocess, MOST_JUDGED)
        means = {f"loss_{name}": float(np.mean(values)) for name, values in losses.items()}
        line = {"step": training.step, **means, **scores}
        run.log(line)
        draw_curves(run.scores(), run.folder / CURVES)
        progress.scores(line)

    if training.step == 0:
        look({})
    steps = range(training.step, options.steps)
    loader = batches(
        AnyOf(scenes),
        Relight(),
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
            save(training.state(), run.checkpoint)
            losses = {}


def settings_of(bundle: Bundle, found: list[Labelled], options: Options) -> dict[str, Any]:
    """What makes a run this run and no other."""
    asked = {name: value for name, value in asdict(options).items() if name not in ("device", "workers")}
    return {"kind": "promptable", "from": bundle.digest, "data": dataset_folder.digest(found), **asked}


def geometry_of(start: Start, window: int) -> Geometry:
    """Raises BadInput for a window that the network does not take."""
    preprocess = replace(
        start.manifest.preprocess.build(), stretch_percentiles=None
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
    return Geometry(preprocess, window, start.stride)
