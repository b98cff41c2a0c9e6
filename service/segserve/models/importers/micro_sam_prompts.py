"""Import what answers prompts of a μSAM checkpoint, without torch and without its decoder for automatic segmentation.

The network is SAM's or MobileSAM's; micro-sam stretches every image's values to 0 to 255 first. `micro_sam` imports the
decoder too, and needs micro-sam.
"""

from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.sam import VARIANTS, import_sam

# The percentiles that become 0 and 255, as in micro-sam's `_to_image`.
STRETCH_PERCENTILES = (0.0, 100.0)


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    import_sam(request, ("vit_t", *VARIANTS), "micro-sam", {"stretch_percentiles": STRETCH_PERCENTILES})
