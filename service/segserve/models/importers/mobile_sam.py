"""Import MobileSAM: SAM's prompt encoder and decoder with a TinyViT as image encoder. See `sam`."""

from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.sam import import_sam


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    import_sam(request, ("vit_t",), "MobileSAM")
