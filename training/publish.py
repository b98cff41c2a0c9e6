"""Export the starter from a training run: `python training/publish.py --run DIR --to FOLDER`.

Writes a bundle of the run's EMA weights (graphs and weights as fp16) into FOLDER/starter. Left out, FOLDER is that of
the models that ship. `BENCH_STARTER=FOLDER/starter python -m bench starter` scores a trial.
"""

import argparse
import shutil
from pathlib import Path

from torch import nn

from nuclei import STARTER_PREPROCESS
from segserve.models.bundle import write_manifest
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.models.manifest import (
    AmgEntry,
    Dims,
    ModelKind,
    PreprocessEntry,
    PromptableManifest,
    Subject,
)
from segserve.models.networks.starter import EMBEDDING_CHANNELS, ENCODER_STRIDE
from segserve.models.registry import BUILT_IN_MODELS
from segserve.train.checkpoint import load_checkpoint
from segserve.train.trainable_networks import FINE_STARTER, write_promptable_bundle
from train import build_networks

NAME, CARD = "starter", "README.md"
GRID = STARTER_PREPROCESS.input_size // ENCODER_STRIDE
LIKE = PromptableManifest(
    name=NAME,
    kind=ModelKind.SAM,
    architecture=FINE_STARTER,
    preprocess=PreprocessEntry(**vars(STARTER_PREPROCESS)),
    dims=Dims(embedding=(EMBEDDING_CHANNELS, GRID, GRID), low=4 * GRID),
    files={},
    # The best of `segserve evaluate search --method amg` on 15 validation images, 24 clicks a side, for the starter of
    # 0.2: mSA 0.41. The values of segment-anything, 0.88 and 0.95, suit its own models and leave no object here.
    amg=AmgEntry(pred_iou_thresh=0.7, stability_score_thresh=0.8),
)
OBJECT_SIZE = 64.0  # see `PromptableManifest.object_size`
DESCRIPTION = (
    "Small SAM-type model for nuclei, cells and blob-like objects; the example that ships with segserve"
)


def load_ema(checkpoint: Path) -> tuple[nn.ModuleDict, int]:
    """Return (the EMA networks, the step) of a run's checkpoint."""
    saved = load_checkpoint(checkpoint)
    networks = build_networks()
    networks.load_state_dict(saved["averaged"])
    return networks.eval(), saved["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs/starter")
    parser.add_argument(
        "--to", type=Path, default=BUILT_IN_MODELS, help="folder of models; the bundle is in it"
    )
    options = parser.parse_args()
    networks, step = load_ema(options.run / "checkpoint.pt")
    with new_bundle(options.to, NAME, replace=True) as folder:
        about = ModelCard(
            DESCRIPTION,
            "Apache-2.0",
            "trained by training/train.py on CC0 nuclei and drawn scenes",
            (Subject.NUCLEI, Subject.CELLS),
        )
        bundle = write_promptable_bundle(networks, LIKE, folder, name=NAME, about=about, fp16_weights=True)
        manifest = bundle.expect(PromptableManifest)
        write_manifest(folder, manifest.model_copy(update={"object_size": OBJECT_SIZE}))
        shutil.copy(BUILT_IN_MODELS / NAME / CARD, folder / CARD)
    print(f"{options.to / NAME}: the weights of step {step}")


if __name__ == "__main__":
    main()
