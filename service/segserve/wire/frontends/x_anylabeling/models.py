"""The models as X-AnyLabeling lists them: the widgets decide which buttons the user sees."""

from typing import Any

from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, SemanticManifest

Json = dict[str, Any]

CLICK_WIDGETS = (
    "button_add_point",
    "button_remove_point",
    "button_add_rect",
    "button_clear",
    "button_finish_object",
)
RUN_WIDGETS = ("button_run", "toggle_preserve_existing_annotations")
THRESHOLD_WIDGETS = ("input_conf", "edit_conf")
FINENESS_WIDGETS = ("mask_fineness_slider", "mask_fineness_value_label")
# What the client begins with: it keeps the labels that are there, also where it does not reach the service.
VALUES = {"edit_conf": 0.5, "mask_fineness_slider": 1, "toggle_preserve_existing_annotations": True}


def describe_model(bundle: Bundle) -> Json:
    """Return a model as GET /v1/models lists it. Without marks each finds all objects of an image, also in a batch."""
    widgets: tuple[str, ...] = CLICK_WIDGETS
    match bundle.manifest:
        case SemanticManifest():
            widgets = ()
        case InstancesManifest():
            widgets = THRESHOLD_WIDGETS
    return {
        "display_name": bundle.name,
        "widgets": [
            {"name": name, "value": VALUES.get(name)} for name in (*widgets, *RUN_WIDGETS, *FINENESS_WIDGETS)
        ],
        "params": {},
        "batch_processing_mode": "default",
    }
