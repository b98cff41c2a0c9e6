"""The models as X-AnyLabeling lists them: the widgets decide which buttons the user sees."""

from collections.abc import Iterable
from typing import Any

from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, PromptableManifest, SemanticManifest

Json = dict[str, Any]

CLICK_WIDGETS = (
    "button_add_point",
    "button_remove_point",
    "button_add_rect",
    "button_clear",
    "button_finish_object",
)
VIDEO_WIDGETS = tuple(
    name for name in CLICK_WIDGETS if name != "button_add_rect"
)  # the client sends points only
RUN_WIDGETS = ("button_run", "toggle_preserve_existing_annotations")
THRESHOLD_WIDGETS = ("input_conf", "edit_conf")
FINENESS_WIDGETS = ("mask_fineness_slider", "mask_fineness_value_label")
# What the client begins with: it keeps the labels that are there, also where it does not reach the service.
VALUES = {"edit_conf": 0.5, "mask_fineness_slider": 1, "toggle_preserve_existing_annotations": True}


# Ends the id of a model that follows objects through the frames of a folder.
VIDEO_SUFFIX = "@video"


def list_models(bundles: Iterable[Bundle]) -> dict[str, Json]:
    """Return all models by their ids. Those that take prompts are there twice: for pictures, and for videos."""
    models: dict[str, Json] = {}
    for bundle in bundles:
        models[bundle.name] = describe_model(bundle)
        if isinstance(bundle.manifest, PromptableManifest):
            models[bundle.name + VIDEO_SUFFIX] = describe_model(bundle, is_video=True)
    return models


def split_model_id(model_id: str) -> tuple[str, bool]:
    """Return the name of the model, and whether it is meant for videos."""
    return model_id.removesuffix(VIDEO_SUFFIX), model_id.endswith(VIDEO_SUFFIX)


def describe_model(bundle: Bundle, *, is_video: bool = False) -> Json:
    """Return a model as GET /v1/models lists it. Without marks each finds all objects of an image, also in a batch; for
    videos a batch is what follows the object."""
    widgets: tuple[str, ...] = VIDEO_WIDGETS if is_video else CLICK_WIDGETS
    match bundle.manifest:
        case SemanticManifest():
            widgets = ()
        case InstancesManifest():
            widgets = THRESHOLD_WIDGETS
    return {
        "display_name": f"{bundle.name} (video)" if is_video else bundle.name,
        "widgets": [
            {"name": name, "value": VALUES.get(name)} for name in (*widgets, *RUN_WIDGETS, *FINENESS_WIDGETS)
        ],
        "params": {},
        "batch_processing_mode": "video" if is_video else "default",
    }
