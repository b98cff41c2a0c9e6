"""Turn a run's averaged weights into the bundle that ships: `python training/publish.py --data NUCLEI`.

Writes the ONNX bundle (weights stored as fp16), the weights themselves for later training, the scores on the
validation images, and the model card.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam

from judge import judge
from network import AutomaticDecoder, build_sam
from scenes import STRETCH, read_nuclei
from segserve.models.export.automatic import add_automatic
from segserve.models.export.sam import export_sam, round_to_half
from segserve.models.registry import BUILT_IN

HERE = Path(__file__).parent
DESCRIPTION = (
    "Small SAM-type model for nuclei, cells and blob-like objects; the example that ships with segserve"
)


def load(checkpoint: Path) -> tuple[Sam, AutomaticDecoder, int]:
    """(promptable part, automatic decoder, step) of a run's averaged weights, rounded to fp16."""
    saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
    networks = torch.nn.ModuleDict({"sam": build_sam(), "automatic": AutomaticDecoder()})
    prefix = "module."
    weights = {k.removeprefix(prefix): v for k, v in saved["average"].items() if k.startswith(prefix)}
    networks.load_state_dict(weights)
    networks.eval()
    round_to_half(networks)
    return networks["sam"], networks["automatic"], saved["step"]  # type: ignore[return-value]


def publish(sam: Sam, automatic: AutomaticDecoder, target: Path) -> None:
    """Export beside the old bundle and swap, so that a failed export harms nothing."""
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        folder = Path(work) / "bundle"
        bundle = export_sam(
            sam,
            folder,
            name="starter",
            architecture="starter-conv",
            description=DESCRIPTION,
            licence="Apache-2.0",
            source="trained from zero by training/train.py on CC0 nuclei and drawn scenes",
            stretch_percentiles=STRETCH,
            half=True,
        )
        add_automatic(automatic, bundle, half=True)
        for extra in ("README.md",):
            if (target / extra).exists():
                shutil.copy(target / extra, folder / extra)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=HERE / "runs/starter")
    parser.add_argument("--no-scores", action="store_true", help="export only")
    options = parser.parse_args()
    sam, automatic, step = load(options.run / "checkpoint.pt")
    publish(sam, automatic, BUILT_IN / "starter")
    weights = {
        **{f"sam.{k}": v for k, v in sam.state_dict().items()},
        **{f"automatic.{k}": v for k, v in automatic.state_dict().items()},
    }
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in weights.items()},
        HERE / "starter.safetensors",
    )
    if not options.no_scores:
        _, validation = read_nuclei(options.data)
        scores = {"step": step, "validation_images": len(validation), **judge(sam, automatic, validation)}
        (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        print(json.dumps(scores))


if __name__ == "__main__":
    main()
