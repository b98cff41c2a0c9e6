"""Import SAM 2 and 2.1 by sam2: tiny, small, base_plus, large, and fine-tunes that kept the architecture."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.sam2 import export_sam2
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.importers.read_checkpoint import StateDict
from segserve.models.networks.sam2 import SAM2_CONFIGS, build_sam2_network

PARTS = (
    "image_encoder.",
    "sam_prompt_encoder.",
    "sam_mask_decoder.",
    "memory_attention.",
    "memory_encoder.",
)
PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
BLOCK = "image_encoder.trunk.blocks.{}.norm1.weight"
# A tensor that 2.1 has and 2.0 has not.
ONLY_IN_2_1 = "no_obj_embed_spatial"
SIZE_BY_WIDTH = {96: "tiny", 112: "base_plus", 144: "large"}


def recognise_variant(state: StateDict) -> str:
    """Return the variant, such as "2.1_tiny", by the encoder's width and blocks. Raises BadInput."""
    size = None
    if PATCHES in state:
        size = SIZE_BY_WIDTH.get(state[PATCHES].shape[0])
        if (
            size == "tiny" and BLOCK.format(12) in state
        ):  # small has tiny's width, and 16 blocks instead of 12
            size = "small"
    if size is None:
        raise BadInput(
            "This is not a checkpoint of SAM 2.",
            field="checkpoint",
            remedy=f"Expected {PATCHES!r} of 96, 112 or 144 channels.",
        )
    return f"{'2.1' if ONLY_IN_2_1 in state else '2'}_{size}"


class Sam2Importer(PromptableImporter):
    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        variant = variant or recognise_variant(state)
        if variant not in SAM2_CONFIGS:
            raise BadInput(
                f"SAM 2 has no variant {variant!r}.",
                field="variant",
                remedy=f"Known: {', '.join(SAM2_CONFIGS)}.",
            )
        return load_weights(build_sam2_network(variant), state, f"SAM {variant}", PARTS), f"hiera_{variant}"

    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        return export_sam2(network, folder, name=name, architecture=architecture, **vars(card))

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its transforms use what torch deprecates
            predictor = SAM2ImagePredictor(network)
        predictor._transforms = lambda _: image[0]  # the image is prepared already
        predictor.set_image(np.zeros((*image.shape[2:], 3), np.uint8))
        fine, middle = predictor._features["high_res_feats"]
        return {"embedding": predictor._features["image_embed"], "high_res_0": fine, "high_res_1": middle}

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return network.sam_prompt_encoder, network.sam_mask_decoder


IMPORTER = Sam2Importer()
write_bundle = IMPORTER.write_bundle
