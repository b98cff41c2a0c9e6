"""Import SAM 2 and 2.1 by sam2, the whole network with its memory for videos. See `sam2`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from segserve.models.bundle import Bundle
from segserve.models.export.sam2 import export_sam2
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.importers.read_checkpoint import StateDict
from segserve.models.importers.sam2 import check_variant, recognise_variant
from segserve.models.networks.sam2 import build_sam2_network

PARTS = (
    "image_encoder.",
    "sam_prompt_encoder.",
    "sam_mask_decoder.",
    "memory_attention.",
    "memory_encoder.",
)


def fit_features(predictor: SAM2ImagePredictor, network: Any) -> None:
    """Tell a predictor the sizes of the network's features: by itself it takes every input for 1024 pixels wide."""
    grid = network.sam_image_embedding_size
    predictor._bb_feat_sizes = [(4 * grid, 4 * grid), (2 * grid, 2 * grid), (grid, grid)]


class Sam2Importer(PromptableImporter):
    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        variant = check_variant(variant) or recognise_variant({k: v.shape for k, v in state.items()})
        return load_weights(build_sam2_network(variant), state, f"SAM {variant}", PARTS), f"hiera_{variant}"

    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        return export_sam2(network, folder, name=name, architecture=architecture, **vars(card))

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its transforms use what torch deprecates
            predictor = SAM2ImagePredictor(network)
        fit_features(predictor, network)
        predictor._transforms = lambda _: image[0]  # the image is prepared already
        predictor.set_image(np.zeros((*image.shape[2:], 3), np.uint8))
        fine, middle = predictor._features["high_res_feats"]
        return {"embedding": predictor._features["image_embed"], "high_res_0": fine, "high_res_1": middle}

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return network.sam_prompt_encoder, network.sam_mask_decoder


IMPORTER = Sam2Importer()
write_bundle = IMPORTER.write_bundle
