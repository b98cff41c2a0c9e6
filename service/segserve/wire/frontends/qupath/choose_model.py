"""The model that QuPath means: its type, or one of the "weights" that the service offers for every type."""

from collections.abc import Iterable

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest

# What ends the name of the architecture, by the types that the extension knows.
ARCHITECTURES = {
    "vit_h": "vit_h",
    "vit_l": "vit_l",
    "vit_b": "vit_b",
    "vit_t": "vit_t",
    "sam2_l": "_large",
    "sam2_bp": "_base_plus",
    "sam2_s": "_small",
    "sam2_t": "_tiny",
}
# The address of weights: "segserve:starter" is the model starter.
SCHEME = "segserve:"


def is_of_type(bundle: Bundle, model_type: str) -> bool:
    """Whether a model has the architecture of a type."""
    ending = ARCHITECTURES.get(model_type)
    return ending is not None and bundle.manifest.architecture.endswith(ending)


def list_weights(bundles: Iterable[Bundle], model_type: str | None) -> list[dict[str, str]]:
    """Return all models that take prompts, those of the type first.

    The extension has a fixed list of types. So that every model can be chosen there, each is offered with every type.
    """
    usable = [bundle for bundle in bundles if isinstance(bundle.manifest, PromptableManifest)]
    kind = model_type or "vit_b"
    usable.sort(key=lambda bundle: not is_of_type(bundle, kind))
    return [{"type": kind, "name": bundle.name, "url": f"{SCHEME}{bundle.name}"} for bundle in usable]


def choose_model(bundles: Iterable[Bundle], model_type: str, checkpoint_url: str | None, default: str) -> str:
    """Return the name of the model: of the weights if there are some, else of the type, else the default one.

    Raises BadInput for weights that are not of this service: it downloads none for a client.
    """
    if checkpoint_url:
        if not checkpoint_url.startswith(SCHEME):
            raise BadInput(
                "Weights are not downloaded for a client.",
                field="checkpoint_url",
                remedy="Choose one of the weights that the service lists, or ask its operator to import these.",
            )
        return checkpoint_url.removeprefix(SCHEME)
    return next((bundle.name for bundle in bundles if is_of_type(bundle, model_type)), default)
