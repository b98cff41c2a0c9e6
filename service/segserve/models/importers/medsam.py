"""Import MedSAM: SAM vit_b fine-tuned on medical images, with its own way of preparing them. See `sam`.

Its inference script (bowang-lab/MedSAM, MedSAM_Inference.py) stretches an image of any shape to the square, maps the
smallest and largest value to 0 and 1, and applies no mean and deviation. It was trained on boxes.
"""

from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.sam import VARIANTS, import_sam
from segserve.models.manifest import PromptKind

PREPROCESS = {
    "mean": (0.0, 0.0, 0.0),
    "std": (255.0, 255.0, 255.0),
    "resize": "stretch",
    "stretch_percentiles": (0.0, 100.0),
}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    import_sam(request, VARIANTS, "MedSAM", PREPROCESS, prompts=(PromptKind.BOXES,))
