"""MobileSAM's own network with a checkpoint's weights; see `sam_network`."""

import warnings
from typing import Any

from segserve.errors import BadInput
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.read_checkpoint import StateDict
from segserve.models.importers.sam_network import PARTS, SamImporter

with warnings.catch_warnings():
    # It imports timm under deprecated names, and registers models that timm has itself by now.
    warnings.simplefilter("ignore")
    from mobile_sam import sam_model_registry

VARIANT = "vit_t"


class MobileSamImporter(SamImporter):
    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        if variant not in (None, VARIANT):
            raise BadInput(
                f"MobileSAM has no variant {variant!r}.", field="variant", remedy=f"Known: {VARIANT}."
            )
        # TinyViT looks up its attention biases in eval(), which load_weights calls last.
        return load_weights(sam_model_registry[VARIANT](), state, "MobileSAM vit_t", PARTS), VARIANT


IMPORTER = MobileSamImporter()
