"""The networks of a bundle as PyTorch modules to train, and the trained networks written as a bundle."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segserve.errors import BadInput
from segserve.models.bundle import AUTOMATIC_NETWORK, PROMPTABLE_NETWORK, Bundle, write_manifest
from segserve.models.export.ais_decoder import add_ais_decoder
from segserve.models.export.batch_norm import fold_batch_norms
from segserve.models.export.sam import export_sam
from segserve.models.export.torch_to_onnx import round_to_fp16
from segserve.models.importers.compare_promptable import compare_promptable
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.sam_network import SamImporter
from segserve.models.manifest import BundleRuntime, ModelKind, PromptableManifest
from segserve.models.networks.starter import (
    AutomaticDecoder,
    FineAutomaticDecoder,
    build_fine_starter_sam,
    build_starter_sam,
)
from segserve.models.weights import read_weights, write_weights
from segserve.train.batched_decoder import encode_images, predict_maps

COARSE_STARTER = "starter-conv"
FINE_STARTER = "starter-fine"
STARTER_ARCHITECTURES = (COARSE_STARTER, FINE_STARTER)
INHERITED_FIELDS = (
    "preprocess",
    "mask_threshold",
    "ais",
    "amg",
)  # of the manifest that training started from
# The factor by which a bundle of fp16 weights may differ more: what the fast decoder precomputes is rounded again.
FP16_SLACK = 20.0


def sam_builder(variant: str) -> Callable[[], Any]:
    """Return a function that builds segment-anything's network of a variant, such as "vit_b"."""

    def build_sam() -> Any:
        from segment_anything import sam_model_registry

        return sam_model_registry[variant]()

    return build_sam


def build_mobile_sam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mobile_sam imports timm by names that timm deprecates
        from mobile_sam import sam_model_registry

        return sam_model_registry["vit_t"]()


# By the architecture of a manifest.
BUILDER_BY_ARCHITECTURE: dict[str, Callable[[], Any]] = {
    COARSE_STARTER: build_starter_sam,
    FINE_STARTER: build_fine_starter_sam,
    "vit_t": build_mobile_sam,
    **{variant: sam_builder(variant) for variant in ("vit_b", "vit_l", "vit_h")},
}


@dataclass
class TrainableNetworks:
    """The networks of a bundle.

    networks: "sam" and "automatic".
    automatic_is_new: the bundle has no automatic decoder, so it begins with random weights.
    """

    manifest: PromptableManifest
    networks: nn.ModuleDict
    automatic_is_new: bool

    @property
    def stride(self) -> int:
        """Input pixels per cell of the embedding."""
        return self.manifest.preprocess.input_size // self.manifest.dims.embedding[1]

    @property
    def takes_windows(self) -> bool:
        """Whether the encoder takes less than the whole input. SAM's encoders have a position for every patch."""
        return self.manifest.architecture in STARTER_ARCHITECTURES


def build_automatic_decoder(architecture: str, channels: int) -> AutomaticDecoder:
    """Return the automatic decoder of an architecture, with fresh weights. channels: of the embedding."""
    return FineAutomaticDecoder() if architecture == FINE_STARTER else AutomaticDecoder(channels)


class TrainedSam(SamImporter):
    """`TrainedSam` computes with the trained networks what an exported bundle is compared with."""

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        return encode_images(network[PROMPTABLE_NETWORK], image)

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return super().decoder(network[PROMPTABLE_NETWORK])

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        return predict_maps(network[AUTOMATIC_NETWORK], features)


def load_trainable(bundle: Bundle) -> TrainableNetworks:
    """Load the networks of a bundle.

    Raises WrongModel for a model that takes no prompts, BadInput for one that cannot be trained or kept no weights.
    """
    manifest = bundle.expect(PromptableManifest)
    if (
        manifest.kind is not ModelKind.SAM
        or manifest.runtime is not BundleRuntime.FAST
        or manifest.architecture not in BUILDER_BY_ARCHITECTURE
    ):
        raise BadInput(
            f"Model {bundle.name!r} ({manifest.architecture}) cannot be trained here.",
            field="from",
            remedy=f"These can: {', '.join(BUILDER_BY_ARCHITECTURE)}; the starter is one.",
        )
    weights = read_weights(bundle)
    sam = load_weights(
        BUILDER_BY_ARCHITECTURE[manifest.architecture](),
        weights.get(PROMPTABLE_NETWORK, {}),
        manifest.architecture,
        ("",),
    )
    automatic = build_automatic_decoder(manifest.architecture, manifest.dims.embedding[0])
    automatic_is_new = AUTOMATIC_NETWORK not in weights
    if not automatic_is_new:
        load_weights(automatic, weights[AUTOMATIC_NETWORK], "an automatic decoder", ("",))
    networks = nn.ModuleDict({PROMPTABLE_NETWORK: sam, AUTOMATIC_NETWORK: automatic})
    return TrainableNetworks(manifest, networks, automatic_is_new)


def write_promptable_bundle(
    networks: nn.ModuleDict,
    like: PromptableManifest,
    folder: Path,
    *,
    name: str,
    about: ModelCard,
    fp16_weights: bool = False,
) -> Bundle:
    """Export the networks, with their weights, as a bundle in `folder`.

    like: a manifest of the same architecture, which says how images are preprocessed.
    fp16_weights: round all weights to fp16, and store them so.
    Raises BrokenModel where a graph does not compute what its network does.
    """
    networks = copy.deepcopy(networks).cpu().eval()
    folded = fold_batch_norms(networks)
    if fp16_weights:
        for network in folded.values():
            round_to_fp16(network)
    write_weights(folder, dict(networks.items()), fp16_weights=fp16_weights)
    bundle = export_sam(
        folded[PROMPTABLE_NETWORK],
        folder,
        name=name,
        architecture=like.architecture,
        fp16_weights=fp16_weights,
        **vars(about),
    )
    bundle = add_ais_decoder(folded[AUTOMATIC_NETWORK], bundle, fp16_weights=fp16_weights)
    manifest = bundle.expect(PromptableManifest)
    manifest = manifest.model_copy(update={field: getattr(like, field) for field in INHERITED_FIELDS})
    bundle = write_manifest(folder, manifest)
    compare_promptable(bundle, TrainedSam(), folded, slack=FP16_SLACK if fp16_weights else 1.0)
    return bundle
