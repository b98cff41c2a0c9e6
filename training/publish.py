"""Export the starter that ships from a training run: `python training/publish.py --data NUCLEI`.

Writes a bundle of the run's EMA weights (graphs and weights as fp16), and scores on the validation images.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from torch import nn

from scenes import SCENE_PREPROCESS, STARTER_PREPROCESS, read_nuclei
from segserve.automatic.parameters import resolve_ais_params
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.models.manifest import (
    AisEntry,
    AmgEntry,
    Dims,
    ModelKind,
    PreprocessEntry,
    PromptableManifest,
    Subject,
)
from segserve.models.networks.starter import (
    EMBEDDING_CHANNELS,
    ENCODER_STRIDE,
    AutomaticDecoder,
    build_starter_sam,
)
from segserve.models.registry import BUILT_IN_MODELS
from segserve.train.checkpoint import load_checkpoint
from segserve.train.promptable_validation import validate_promptable
from segserve.train.scenes import build_scene
from segserve.train.trainable_networks import STARTER_ARCHITECTURE, write_promptable_bundle

HERE = Path(__file__).parent
NAME, CARD = "starter", "README.md"
GRID = STARTER_PREPROCESS.input_size // ENCODER_STRIDE
LIKE = PromptableManifest(
    name=NAME,
    kind=ModelKind.SAM,
    architecture=STARTER_ARCHITECTURE,
    preprocess=PreprocessEntry(**vars(STARTER_PREPROCESS)),
    dims=Dims(embedding=(EMBEDDING_CHANNELS, GRID, GRID), low=4 * GRID),
    files={},
    # The best of `segserve evaluate search --method amg` on 15 validation images, 24 clicks a side: mSA 0.41. The
    # values of segment-anything, 0.88 and 0.95, suit its own models and leave no object here.
    amg=AmgEntry(pred_iou_thresh=0.7, stability_score_thresh=0.8),
)
DESCRIPTION = (
    "Small SAM-type model for nuclei, cells and blob-like objects; the example that ships with segserve"
)


def load_ema(checkpoint: Path) -> tuple[nn.ModuleDict, int]:
    """Return (the EMA networks, the step) of a run's checkpoint."""
    saved = load_checkpoint(checkpoint)
    networks = nn.ModuleDict({"sam": build_starter_sam(), "automatic": AutomaticDecoder()})
    networks.load_state_dict(saved["averaged"])
    return networks.eval(), saved["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=HERE / "runs/starter")
    parser.add_argument("--no-scores", action="store_true", help="export only")
    options = parser.parse_args()
    networks, step = load_ema(options.run / "checkpoint.pt")
    with new_bundle(BUILT_IN_MODELS, NAME, replace=True) as folder:
        about = ModelCard(
            DESCRIPTION,
            "Apache-2.0",
            "trained from zero by training/train.py on CC0 nuclei and drawn scenes",
            (Subject.NUCLEI, Subject.CELLS),
        )
        write_promptable_bundle(networks, LIKE, folder, name=NAME, about=about, fp16_weights=True)
        shutil.copy(BUILT_IN_MODELS / NAME / CARD, folder / CARD)
    if not options.no_scores:
        _, validation = read_nuclei(options.data)
        with torch.no_grad():
            scenes = [build_scene(each, STARTER_PREPROCESS) for each in validation]
            ais = resolve_ais_params(LIKE, AisEntry())
            measured = validate_promptable(networks, scenes, SCENE_PREPROCESS, ais=ais)
        scores = {"step": step, "validation_images": len(validation), **measured}
        (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        print(json.dumps(scores))


if __name__ == "__main__":
    main()
