"""The networks of a bundle, to train them on; and what comes of them as a bundle that serves at once."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segserve.errors import BadInput
from segserve.models.bundle import Bundle, Kind, PromptableManifest, Runtime, write_manifest
from segserve.models.export.automatic import add_automatic
from segserve.models.export.sam import export_sam, fold_batch_norms, round_to_half
from segserve.models.importers import About
from segserve.models.importers.compare import check, compare, relative_to_largest
from segserve.models.importers.sam import Sam
from segserve.models.importers.state import load_weights
from segserve.models.model import Model
from segserve.models.networks.starter import AutomaticDecoder, build_sam
from segserve.models.runtime import RuntimeOptions
from segserve.models.weights import AUTOMATIC, PROMPTABLE, read_weights, write_weights
from segserve.settings import cores

STARTER = "starter-conv"
MAPS_TOLERANCE = 1e-3  # largest error over the largest value
HALF_SLACK = 20.0  # what the fast decoder computes from the weights beforehand is rounded once more


def published_sam(variant: str) -> Callable[[], Any]:
    def build() -> Any:
        from segment_anything import sam_model_registry

        return sam_model_registry[variant]()

    return build


def mobile_sam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports timm by names that timm deprecates
        from mobile_sam import sam_model_registry

        return sam_model_registry["vit_t"]()


# By a manifest's architecture
NETWORKS: dict[str, Callable[[], Any]] = {
    STARTER: build_sam,
    "vit_t": mobile_sam,
    **{variant: published_sam(variant) for variant in ("vit_b", "vit_l", "vit_h")},
}


@dataclass
class Start:
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


def trainable(bundle: Bundle) -> Start:
    """Raises WrongModel for what takes no prompts, BadInput for what cannot be trained on."""
    manifest = bundle.expect(PromptableManifest)
    if manifest.kind is not Kind.SAM or manifest.runtime is not Runtime.FAST or manifest.architecture not in NETWORKS:
        raise BadInput(
            f"Model {bundle.name!r} ({manifest.architecture}) cannot be trained here.",
            field="from",
            remedy=f"These can: {', '.join(NETWORKS)}; the starter is one.",
        )
    weights = read_weights(bundle)
    sam = load_weights(
        NETWORKS[manifest.architecture](), weights.get(PROMPTABLE, {}), manifest.architecture, ("",)
    )
    automatic = AutomaticDecoder(manifest.dims.embedding[0])
    fresh = AUTOMATIC not in weights
    if not fresh:
        load_weights(automatic, weights[AUTOMATIC], "an automatic decoder", ("",))
    return Start(manifest, nn.ModuleDict({PROMPTABLE: sam, AUTOMATIC: automatic}), fresh)


def write_bundle(
    networks: nn.ModuleDict,
    like: PromptableManifest,
    folder: Path,
    *,
    name: str,
    about: About,
    half: bool = False,
) -> Bundle:
    """like: of what architecture the networks are, and how images are prepared for them. half: round all weights to
    fp16 and store them so. Raises BrokenModel where a graph does not compute what its network does."""
    networks = copy.deepcopy(networks).cpu().eval()
    sam, automatic = (fold_batch_norms(networks[part]) for part in (PROMPTABLE, AUTOMATIC))
    if half:
        round_to_half(sam)
        round_to_half(automatic)
    write_weights(folder, dict(networks.items()), half=half)
    bundle = export_sam(sam, folder, name=name, architecture=like.architecture, half=half, **vars(about))
    bundle = add_automatic(automatic, bundle, half=half)
    manifest = bundle.expect(PromptableManifest)
    manifest = manifest.model_copy(update={"preprocess": like.preprocess, "ais": like.ais})
    bundle = write_manifest(folder, manifest)
    compare(bundle, Sam(), sam, slack=HALF_SLACK if half else 1.0)
    compare_maps(bundle, automatic)
    return bundle


def compare_maps(bundle: Bundle, automatic: nn.Module) -> None:
    """Raises BrokenModel where ais.onnx does not compute what the decoder does."""
    model = Model(bundle, None, None, RuntimeOptions(threads=cores()))
    shape = model.manifest.dims.embedding
    embedding = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = automatic(embedding)[0].numpy()
    found = model.maps({"embedding": embedding[0].numpy()})
    check("automatic decoder", relative_to_largest(found, expected), MAPS_TOLERANCE)
