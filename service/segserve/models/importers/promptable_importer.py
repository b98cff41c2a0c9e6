"""The base class of the importers of promptable models: SAM, MobileSAM, MedSAM, micro-sam, SAM 2.

It holds the steps of an import, and the library's own encoder and decoder to compare the result with.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from segserve.errors import BrokenModel
from segserve.models.bundle import PROMPTABLE_NETWORK, Bundle
from segserve.models.export.fp16 import add_fp16_encoder
from segserve.models.importers.compare_promptable import compare_promptable
from segserve.models.importers.import_request import ImportRequest, ModelCard
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint
from segserve.models.weights import write_weights

log = structlog.get_logger(__name__)


class PromptableImporter(ABC):
    """Imports one family of promptable models. It has no state: every method takes the network that `build` made.

    It is a `compare_promptable.LibraryModel`.
    """

    def write_bundle(self, request: ImportRequest) -> None:
        """Write the bundle and compare it with the library. Raises BadInput, BrokenModel."""
        request.on_stage("reading the checkpoint")
        network, architecture = self.build(self.read(request.checkpoint, request.decoder), request.variant)
        if request.keep_weights:
            write_weights(request.folder, {PROMPTABLE_NETWORK: self.promptable(network)})
        request.on_stage("writing ONNX graphs")
        bundle = self.export(
            network, request.folder, name=request.name, architecture=architecture, card=request.card
        )
        request.on_stage("comparing with the library")
        compare_promptable(bundle, self, network)
        request.on_stage("writing the encoder in fp16")
        try:
            add_fp16_encoder(bundle)
        except BrokenModel as error:  # the model works without it: a GPU runs the encoder in float32
            log.warning("no fp16 encoder", name=request.name, reason=str(error))

    def read(self, checkpoint: Path, decoder: Path | None) -> StateDict:
        """Return the tensors by name. decoder: a second file that holds the automatic decoder, for families that
        have one. Raises BadInput."""
        return read_checkpoint(checkpoint)

    @abstractmethod
    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        """Return the library's network with these weights, and the name of its architecture. Raises BadInput."""

    @abstractmethod
    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        """Write the bundle's files into `folder`."""

    @abstractmethod
    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """Encode image [1, 3, S, S] by the library. Returns the features by the bundle's names, batch axis kept."""

    def promptable(self, network: Any) -> nn.Module:
        """Return the part of the network that answers prompts: its weights can be trained further."""
        module: nn.Module = network
        return module

    @abstractmethod
    def decoder(self, network: Any) -> tuple[Any, Any]:
        """Return the prompt encoder and the mask decoder."""

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        """Return the library's own automatic maps [1, 3, h, h], or None where it has no automatic decoder."""
        return None

    def decode(
        self,
        network: Any,
        features: dict[str, Tensor],
        points: tuple[Tensor, Tensor] | None,
        box: Tensor | None,
        prior: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode one prompt by the library into logits [4, 4g, 4g] and scores [4] of all mask tokens.

        points: coordinates [1, N, 2] in input pixels, and labels [1, N].
        box: [1, 4] in input pixels.
        prior: logits [1, 1, 4g, 4g].
        """
        prompt_encoder, mask_decoder = self.decoder(network)
        sparse, dense = prompt_encoder(points=points, boxes=box, masks=prior)
        extra: dict[str, Any] = {}
        if len(features) > 1:
            extra = {
                "repeat_image": False,
                "high_res_features": [features["high_res_0"], features["high_res_1"]],
            }
        with torch.no_grad():
            masks, scores, *_ = mask_decoder.predict_masks(
                image_embeddings=features["embedding"],
                image_pe=prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                **extra,
            )
        return masks[0], scores[0]
