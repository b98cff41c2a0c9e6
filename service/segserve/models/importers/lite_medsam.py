"""Import LiteMedSAM: a TinyViT on 256 x 256 pixels with SAM's decoders, distilled from MedSAM. See `sam`.

Its inference script (bowang-lab/MedSAM, branch LiteMedSAM) makes the longer side 256 pixels, maps the smallest and
largest value to 0 and 1, and pads with zeros. It was trained on boxes.
"""

from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.sam import import_sam
from segserve.models.manifest import PromptKind


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    import_sam(request, ("lite_medsam",), "LiteMedSAM", prompts=(PromptKind.BOXES,))
