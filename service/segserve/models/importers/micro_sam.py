"""Segment Anything for Microscopy: a SAM or MobileSAM with a decoder for automatic instance segmentation.

Checkpoints hold both as `model_state` and `decoder_state` (micro-sam's `export_custom_sam_model` and its
training), or the decoder is published as a file of its own. The decoder is torch_em's UNETR on the embedding
alone, built by micro-sam.

micro-sam never puts its decoder into eval mode, so that its batch norms take the statistics of the image at hand,
and stretches every image's values to 0 to 255. Bundles do both, since the models are judged and used that way.
"""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segserve.errors import BadInput
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.ais_decoder import add_ais_decoder
from segserve.models.export.instance_norm import replace_instance_norms
from segserve.models.importers.import_request import CheckpointKind, ModelCard
from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.importers.read_checkpoint import (
    StateDict,
    load_untrusted,
    select_tensors,
    unwrap_state_dict,
)
from segserve.models.importers.sam import IMPORTER as SAM
from segserve.models.importers.sam import SamImporter
from segserve.models.manifest import PromptableManifest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about optional parts that are not installed
    from micro_sam.instance_segmentation import get_decoder

UNDER = "decoder_state"
PREFIX = f"{UNDER}."  # of the decoder's tensors beside the model's, as `MicroSamImporter.read` joins them
STRETCH = (0.0, 100.0)  # percentiles that become 0 and 255, as micro-sam's `_to_image` does
TINY_VIT = "image_encoder.layers."


class MicroSamAisDecoder(nn.Module):
    """embedding [1, C, g, g] -> maps [1, 3, h, h], of micro-sam's decoder before it goes to an image's size."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor) -> Tensor:
        maps: Tensor = self.decoder._forward_impl(embedding)
        return maps


class MicroSamNetwork(nn.Module):
    """sam: the promptable part, built by `family`."""

    def __init__(self, family: SamImporter, sam: Any, maps: MicroSamAisDecoder) -> None:
        super().__init__()
        self.family, self.sam, self.maps = family, sam, maps


class MicroSamImporter(PromptableImporter):
    def read(self, checkpoint: Path, decoder: Path | None) -> StateDict:
        """decoder: the file that holds it; None where the checkpoint does. Raises BadInput."""
        loaded = load_untrusted(checkpoint)
        found = loaded.get(UNDER) if isinstance(loaded, Mapping) else None
        if decoder is not None:
            found = load_untrusted(decoder)
            found = found.get(UNDER, found) if isinstance(found, Mapping) else None
        automatic = select_tensors(found)
        if not automatic:
            raise BadInput(
                f"{(decoder or checkpoint).name} holds no decoder for automatic instance segmentation.",
                field="decoder" if decoder else "checkpoint",
                remedy=f"Expected tensors under {UNDER!r}, or the decoder's file with --decoder. Without one: "
                "import it as sam or mobile_sam.",
            )
        return {**unwrap_state_dict(loaded), **{f"{PREFIX}{key}": value for key, value in automatic.items()}}

    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        model = {key: value for key, value in state.items() if not key.startswith(PREFIX)}
        family = SAM
        if any(key.startswith(TINY_VIT) for key in model):
            family = importlib.import_module(f"{__package__}.{CheckpointKind.MOBILE_SAM}").IMPORTER
        sam, architecture = family.build(model, variant)
        automatic = {key[len(PREFIX) :]: value for key, value in state.items() if key.startswith(PREFIX)}
        try:
            decoder = get_decoder(sam.image_encoder, automatic, device="cpu")
        except (RuntimeError, KeyError) as error:  # what is missing, or of another shape
            raise BadInput(
                f"The decoder does not fit micro-sam's: {str(error).splitlines()[0]}",
                field="checkpoint",
                remedy="Is it the decoder of this very model?",
            ) from error
        del decoder.postprocess_masks  # it holds the encoder, and copies would too
        return MicroSamNetwork(family, sam, MicroSamAisDecoder(decoder)), architecture

    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        bundle = network.family.export(network.sam, folder, name=name, architecture=architecture, card=card)
        manifest = bundle.expect(PromptableManifest)
        preprocess = manifest.preprocess.model_copy(update={"stretch_percentiles": STRETCH})
        bundle = write_manifest(folder, manifest.model_copy(update={"preprocess": preprocess}))
        return add_ais_decoder(replace_instance_norms(network.maps), bundle)

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = network.family.encode(network.sam, image)
        return found

    def promptable(self, network: Any) -> nn.Module:
        sam: nn.Module = network.sam
        return sam

    def decoder(self, network: Any) -> tuple[Any, Any]:
        parts: tuple[Any, Any] = network.family.decoder(network.sam)
        return parts

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        maps: Tensor = network.maps(features["embedding"])
        return maps


IMPORTER = MicroSamImporter()
write_bundle = IMPORTER.write_bundle
