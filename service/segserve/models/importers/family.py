"""What an importer of one family of promptable models does, and how its library is asked for the truth."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from segserve.errors import BrokenModel
from segserve.models.bundle import Bundle
from segserve.models.export.fp16 import add_half_encoder
from segserve.models.importers import About, Job
from segserve.models.importers.checkpoint import State, read_checkpoint
from segserve.models.importers.compare_promptable import compare
from segserve.models.weights import PROMPTABLE, write_weights

log = structlog.get_logger(__name__)


class Family(ABC):
    """Stateless: the network it builds is handed back to it."""

    def write(self, job: Job) -> None:
        """The bundle, compared with the library. Raises BadInput, BrokenModel."""
        job.on_stage("reading the checkpoint")
        network, architecture = self.build(self.read(job.checkpoint, job.decoder), job.variant)
        if job.keep_weights:
            write_weights(job.folder, {PROMPTABLE: self.promptable(network)})
        job.on_stage("writing ONNX graphs")
        bundle = self.export(network, job.folder, name=job.name, architecture=architecture, about=job.about)
        job.on_stage("comparing with the library")
        compare(bundle, self, network)
        job.on_stage("writing the encoder in fp16")
        try:
            add_half_encoder(bundle)
        except BrokenModel as error:  # a GPU will run it in float32
            log.warning("no fp16 encoder", name=job.name, reason=str(error))

    def read(self, checkpoint: Path, decoder: Path | None) -> State:
        """The tensors by name. decoder: a second file with an automatic decoder, for families that have one.
        Raises BadInput."""
        return read_checkpoint(checkpoint)

    @abstractmethod
    def build(self, state: State, variant: str | None) -> tuple[Any, str]:
        """The library's network with these weights, and the name of its architecture. Raises BadInput."""

    @abstractmethod
    def export(self, network: Any, folder: Path, *, name: str, architecture: str, about: About) -> Bundle:
        """Write the bundle's files into `folder`."""

    @abstractmethod
    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """The library's own encoder: image [1, 3, S, S] -> the bundle's names, batch axis kept."""

    def promptable(self, network: Any) -> nn.Module:
        """The part of the network that answers prompts, to train further."""
        module: nn.Module = network
        return module

    @abstractmethod
    def decoder(self, network: Any) -> tuple[Any, Any]:
        """The prompt encoder and the mask decoder."""

    def maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        """The library's own automatic decoder: -> maps [1, 3, h, h], None where there is none."""
        return None

    def decode(
        self,
        network: Any,
        features: dict[str, Tensor],
        points: tuple[Tensor, Tensor] | None,
        box: Tensor | None,
        prior: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The library's own decoder: points ([1, N, 2] input pixels, [1, N]), box [1, 4], prior
        [1, 1, 4g, 4g] -> logits [4, 4g, 4g] and scores [4] of all mask tokens."""
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
