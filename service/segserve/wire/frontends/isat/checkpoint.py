"""The model that encodes for ISAT, and the checkpoint by which ISAT decodes: both must be of the same weights."""

from collections.abc import Iterable

from segserve.errors import BadInput, NotFound
from segserve.models.bundle import Bundle
from segserve.models.catalogue import PUBLISHED_MODELS
from segserve.models.importers.import_request import CheckpointKind
from segserve.models.manifest import PromptableManifest

# By the model's architecture: how the name of its checkpoint begins and ends. ISAT finds the network by the begin.
NAMES = {
    "vit_t": ("mobile_sam", ".pt"),
    **{f"vit_{size}": (f"sam_vit_{size}", ".pth") for size in "blh"},
    **{
        f"hiera_{version}_{size}": (f"sam{version}_hiera_{size}", ".pt")
        for version in ("2", "2.1")
        for size in ("tiny", "small", "base_plus", "large")
    },
}
PUBLISHED_KINDS = (CheckpointKind.SAM, CheckpointKind.MOBILE_SAM, CheckpointKind.SAM2)
PUBLISHED_FILES = {
    model.name: model.files[0].name for model in PUBLISHED_MODELS if model.kind in PUBLISHED_KINDS
}


def can_decode(bundle: Bundle) -> bool:
    """Whether ISAT has the network of a model."""
    return isinstance(bundle.manifest, PromptableManifest) and bundle.manifest.architecture in NAMES


def name_checkpoint(bundle: Bundle) -> str:
    """Return the file name of the checkpoint that ISAT needs: the published one, or for other weights the begin that
    tells ISAT the network, and the model's name."""
    begin, ending = NAMES[bundle.manifest.architecture]
    return PUBLISHED_FILES.get(bundle.name, f"{begin}_{bundle.name}{ending}")


def choose_model(bundles: Iterable[Bundle], name: str | None, default: str) -> Bundle:
    """Return the model that encodes for ISAT.

    name: of the setting isat_model; None takes the default model, or the first one that ISAT can decode for.

    Raises BadInput where ISAT cannot decode for that model, NotFound where there is none.
    """
    usable = {bundle.name: bundle for bundle in bundles if can_decode(bundle)}
    if name is not None and name not in usable:
        raise BadInput(
            f"ISAT cannot decode for a model {name!r}.",
            field="isat_model",
            remedy="Set SEGSERVE_ISAT_MODEL to a SAM, a MobileSAM or a SAM 2 that was imported from a checkpoint.",
        )
    if not usable:
        raise NotFound(
            "There is no model that ISAT can decode for.",
            remedy="Fetch one: segserve models pull mobile-sam.",
        )
    return usable.get(name or default) or next(iter(usable.values()))
