"""segment-anything's own SAM with a checkpoint's weights: vit_b, vit_l, vit_h.

micro-sam's importer and training use it. A checkpoint of SAM alone needs no torch: see `sam`.
"""

from pathlib import Path
from typing import Any

from segment_anything import sam_model_registry
from torch import Tensor

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.sam import export_sam
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.importers.read_checkpoint import StateDict

PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
PATCHES = "image_encoder.patch_embed.proj.weight"
VARIANT_BY_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def recognise_variant(state: StateDict) -> str:
    """Return the variant, by the width of the encoder. Raises BadInput."""
    if PATCHES in state and (variant := VARIANT_BY_WIDTH.get(state[PATCHES].shape[0])):
        return variant
    remedy = f"Expected {PATCHES!r} of {', '.join(map(str, VARIANT_BY_WIDTH))} channels."
    if any(k.startswith("image_encoder.layers.") for k in state):
        remedy = "This looks like MobileSAM: import it as mobile_sam."
    elif any(k.startswith("image_encoder.trunk.") for k in state):
        remedy = "This looks like SAM 2: import it as sam2."
    raise BadInput(
        "This is not a checkpoint of SAM vit_b, vit_l or vit_h.", field="checkpoint", remedy=remedy
    )


class SamImporter(PromptableImporter):
    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        variant = variant or recognise_variant(state)
        if variant not in VARIANT_BY_WIDTH.values():
            raise BadInput(
                f"SAM has no variant {variant!r}.",
                field="variant",
                remedy=f"Known: {', '.join(VARIANT_BY_WIDTH.values())}.",
            )
        return load_weights(sam_model_registry[variant](), state, f"SAM {variant}", PARTS), variant

    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        return export_sam(network, folder, name=name, architecture=architecture, **vars(card))

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        return {"embedding": network.image_encoder(image)}

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return network.prompt_encoder, network.mask_decoder


IMPORTER = SamImporter()
