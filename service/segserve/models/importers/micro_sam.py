"""Import Segment Anything for Microscopy (micro-sam): SAM or MobileSAM with a decoder for automatic segmentation (AIS).

A checkpoint holds both as `model_state` and `decoder_state` (micro-sam's `export_custom_sam_model` and its
training), or the decoder is published as a file of its own. The decoder is torch_em's UNETR on the embedding
alone, built by micro-sam.

micro-sam never puts its decoder into eval mode, so the batch norms take the statistics of the current image. It also
stretches every image's values to 0 to 255. Bundles do both, because the models are evaluated and used that way.
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
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.load_weights import as_tensors
from segserve.models.importers.micro_sam_prompts import STRETCH_PERCENTILES
from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.importers.read_checkpoint import (
    StateDict,
    load_untrusted,
    select_tensors,
    unwrap_state_dict,
)
from segserve.models.importers.sam_network import IMPORTER as SAM_IMPORTER
from segserve.models.importers.sam_network import SamImporter
from segserve.models.manifest import PromptableManifest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about optional parts that are not installed
    from micro_sam.instance_segmentation import get_decoder

DECODER_KEY = "decoder_state"
# The prefix of the decoder's tensors where `MicroSamImporter.read` joins them with the model's.
DECODER_PREFIX = f"{DECODER_KEY}."
TINY_VIT_PREFIX = "image_encoder.layers."


class MicroSamAisDecoder(nn.Module):
    """micro-sam's decoder without its resizing to the image: embedding [1, C, g, g] -> maps [1, 3, h, h]."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor) -> Tensor:
        maps: Tensor = self.decoder._forward_impl(embedding)
        return maps


class MicroSamNetwork(nn.Module):
    """The promptable part and the automatic decoder. sam: built by `importer`."""

    def __init__(self, importer: SamImporter, sam: Any, ais_decoder: MicroSamAisDecoder) -> None:
        super().__init__()
        self.importer, self.sam, self.ais_decoder = importer, sam, ais_decoder


class MicroSamImporter(PromptableImporter):
    def read(self, checkpoint: Path, decoder: Path | None) -> StateDict:
        """Return the tensors of the model and of its decoder. Raises BadInput.

        decoder: the file that holds the decoder; None where the checkpoint does.
        """
        loaded = load_untrusted(checkpoint)
        decoder_state = loaded.get(DECODER_KEY) if isinstance(loaded, Mapping) else None
        if decoder is not None:
            content = load_untrusted(decoder)
            decoder_state = content.get(DECODER_KEY, content) if isinstance(content, Mapping) else None
        automatic = select_tensors(decoder_state)
        if not automatic:
            raise BadInput(
                f"{(decoder or checkpoint).name} holds no decoder for automatic instance segmentation.",
                field="decoder" if decoder else "checkpoint",
                remedy=f"Expected tensors under {DECODER_KEY!r}, or the decoder's file with --decoder. Without one: "
                "import it as sam or mobile_sam.",
            )
        return {**unwrap_state_dict(loaded), **{f"{DECODER_PREFIX}{key}": v for key, v in automatic.items()}}

    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        model = {key: value for key, value in state.items() if not key.startswith(DECODER_PREFIX)}
        importer = SAM_IMPORTER
        if any(key.startswith(TINY_VIT_PREFIX) for key in model):
            importer = importlib.import_module(f"{__package__}.mobile_sam_network").IMPORTER
        sam, architecture = importer.build(model, variant)
        automatic = {
            key.removeprefix(DECODER_PREFIX): value
            for key, value in state.items()
            if key.startswith(DECODER_PREFIX)
        }
        try:
            decoder = get_decoder(sam.image_encoder, as_tensors(automatic), device="cpu")
        except (RuntimeError, KeyError) as error:  # a tensor is missing, or has another shape
            raise BadInput(
                f"The decoder does not fit micro-sam's: {str(error).splitlines()[0]}",
                field="checkpoint",
                remedy="Is it the decoder of this very model?",
            ) from error
        del decoder.postprocess_masks  # it refers to the encoder, so every copy would hold the encoder too
        return MicroSamNetwork(importer, sam, MicroSamAisDecoder(decoder)), architecture

    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        bundle = network.importer.export(network.sam, folder, name=name, architecture=architecture, card=card)
        manifest = bundle.expect(PromptableManifest)
        preprocess = manifest.preprocess.model_copy(update={"stretch_percentiles": STRETCH_PERCENTILES})
        bundle = write_manifest(folder, manifest.model_copy(update={"preprocess": preprocess}))
        return add_ais_decoder(replace_instance_norms(network.ais_decoder), bundle)

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = network.importer.encode(network.sam, image)
        return features

    def promptable(self, network: Any) -> nn.Module:
        sam: nn.Module = network.sam
        return sam

    def decoder(self, network: Any) -> tuple[Any, Any]:
        parts: tuple[Any, Any] = network.importer.decoder(network.sam)
        return parts

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        maps: Tensor = network.ais_decoder(features["embedding"])
        return maps


IMPORTER = MicroSamImporter()
write_bundle = IMPORTER.write_bundle
