"""The networks of a bundle, to train them on; and what comes of them as a bundle that serves at once."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segserve.errors import BadInput
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.ais_decoder import add_ais_decoder
from segserve.models.export.batch_norm import fold_batch_norms
from segserve.models.export.sam import export_sam
from segserve.models.export.torch_to_onnx import round_to_fp16
from segserve.models.importers.compare_promptable import compare_promptable
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.read_checkpoint import load_weights
from segserve.models.importers.sam import SamImporter
from segserve.models.manifest import BundleRuntime, ModelKind, PromptableManifest
from segserve.models.networks.starter import AutomaticDecoder, build_starter_sam
from segserve.models.weights import AUTOMATIC_NETWORK, PROMPTABLE_NETWORK, read_weights, write_weights

STARTER = "starter-conv"
INHERITED_FIELDS = ("preprocess", "mask_threshold", "ais", "amg")  # of the manifest it began with
HALF_SLACK = 20.0  # what the fast decoder computes from the weights beforehand is rounded once more


def sam_builder(variant: str) -> Callable[[], Any]:
    def build() -> Any:
        from segment_anything import sam_model_registry

        return sam_model_registry[variant]()

    return build


def build_mobile_sam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports timm by names that timm deprecates
        from mobile_sam import sam_model_registry

        return sam_model_registry["vit_t"]()


# By a manifest's architecture
BUILDER_BY_ARCHITECTURE: dict[str, Callable[[], Any]] = {
    STARTER: build_starter_sam,
    "vit_t": build_mobile_sam,
    **{variant: sam_builder(variant) for variant in ("vit_b", "vit_l", "vit_h")},
}


@dataclass
class TrainableNetworks:
    """networks: "sam" and "automatic". fresh: the automatic decoder had to begin from nothing."""

    manifest: PromptableManifest
    networks: nn.ModuleDict
    fresh: bool

    @property
    def stride(self) -> int:
        return self.manifest.preprocess.input_size // self.manifest.dims.embedding[1]

    @property
    def windows(self) -> bool:
        """Whether the encoder takes less than the whole input. Those of SAM have a position for every patch."""
        return self.manifest.architecture == STARTER


class TrainedSam(SamImporter):
    """What an exported bundle is compared with: the networks themselves."""

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        return super().encode(network[PROMPTABLE_NETWORK], image)

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return super().decoder(network[PROMPTABLE_NETWORK])

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        maps: Tensor = network[AUTOMATIC_NETWORK](features["embedding"])
        return maps


def load_trainable(bundle: Bundle) -> TrainableNetworks:
    """Raises WrongModel for what takes no prompts, BadInput for what cannot be trained on."""
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
    automatic = AutomaticDecoder(manifest.dims.embedding[0])
    fresh = AUTOMATIC_NETWORK not in weights
    if not fresh:
        load_weights(automatic, weights[AUTOMATIC_NETWORK], "an automatic decoder", ("",))
    return TrainableNetworks(
        manifest, nn.ModuleDict({PROMPTABLE_NETWORK: sam, AUTOMATIC_NETWORK: automatic}), fresh
    )


def write_promptable_bundle(
    networks: nn.ModuleDict,
    like: PromptableManifest,
    folder: Path,
    *,
    name: str,
    about: ModelCard,
    half: bool = False,
) -> Bundle:
    """like: of what architecture the networks are, and how images are prepared for them. half: round all weights to
    fp16 and store them so. Raises BrokenModel where a graph does not compute what its network does."""
    networks = copy.deepcopy(networks).cpu().eval()
    folded = fold_batch_norms(networks)
    if half:
        for part in folded.values():
            round_to_fp16(part)
    write_weights(folder, dict(networks.items()), fp16_weights=half)
    architecture = like.architecture
    bundle = export_sam(
        folded[PROMPTABLE_NETWORK],
        folder,
        name=name,
        architecture=architecture,
        fp16_weights=half,
        **vars(about),
    )
    bundle = add_ais_decoder(folded[AUTOMATIC_NETWORK], bundle, fp16_weights=half)
    manifest = bundle.expect(PromptableManifest)
    manifest = manifest.model_copy(update={name: getattr(like, name) for name in INHERITED_FIELDS})
    bundle = write_manifest(folder, manifest)
    compare_promptable(bundle, TrainedSam(), folded, slack=HALF_SLACK if half else 1.0)
    return bundle
