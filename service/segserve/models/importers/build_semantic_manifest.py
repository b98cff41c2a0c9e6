"""Build a semantic model's manifest from what its importer detects and what the user says explicitly.

The importers of semantic models share it. It needs no torch.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from segserve.errors import BadInput, describe_invalid
from segserve.models.importers.import_request import ImportRequest
from segserve.models.manifest import Activation, SemanticManifest

# A class of this name is the background.
BACKGROUND = "background"
# Fields that weights and packages may not tell, or tell wrongly.
EXPLICIT_FIELDS = (
    "classes",
    "background",
    "activation",
    "thresholds",
    "input",
    "multiple",
    "tile",
    "overlap",
    "whole_image",
    "postprocess",
)


def read_explicit_fields(request: ImportRequest) -> dict[str, Any]:
    """Return the fields of `SemanticManifest` that the user sets with --manifest and --classes. Raises BadInput.

    They win over the fields that the importer detects.
    """
    explicit: Any = dict(request.fields)
    if request.manifest is not None:
        try:
            explicit = yaml.safe_load(request.manifest.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            raise BadInput(f"{request.manifest} cannot be read: {error}.", field="manifest") from None
        is_mapping = isinstance(explicit, dict)
        unknown = [str(key) for key in explicit if key not in EXPLICIT_FIELDS] if is_mapping else []
        if not is_mapping or unknown:
            raise BadInput(
                f"{request.manifest.name} says {', '.join(unknown) or 'nothing'} that an import could use.",
                field="manifest",
                remedy=f"Give a mapping with any of {', '.join(EXPLICIT_FIELDS)}.",
            )
        explicit = {**request.fields, **explicit}
    return {**explicit, "classes": list(request.classes)} if request.classes else explicit


def build_semantic_manifest(
    request: ImportRequest, architecture: str, *, channels: int, classes: int, detected: Mapping[str, Any]
) -> SemanticManifest:
    """Return the manifest of a network. Raises BadInput naming the field that is wrong.

    channels: of its input.
    classes: channels of its output.
    detected: the fields that the importer knows, by name. The user's explicit fields win over them.

    Defaults: one class is sigmoid, several are softmax. Among named classes, the one named `background` is the
    background; among unnamed classes, the first.
    """
    explicit = read_explicit_fields(request)
    if channels not in (1, 3):
        raise BadInput(
            f"The network takes {channels} channels.",
            field="checkpoint",
            remedy="Images have 1 channel (grey) or 3 (RGB): no other network can be served.",
        )
    fields: dict[str, Any] = {
        "classes": ["object"] if classes == 1 else [BACKGROUND, *(f"class {n}" for n in range(1, classes))],
        "activation": Activation.SIGMOID if classes == 1 else Activation.SOFTMAX,
        "input": {"channels": channels},
        **detected,
        **explicit,
    }
    if not isinstance(fields["classes"], list | tuple):
        raise BadInput(
            "classes is not a list.", field="classes", remedy="Name them, in the order of the channels."
        )
    if "background" not in fields and classes > 1 and BACKGROUND in fields["classes"]:
        fields["background"] = list(fields["classes"]).index(BACKGROUND)
    if len(fields["classes"]) != classes:
        raise BadInput(
            f"The network returns {classes} channels, and {len(fields['classes'])} classes are named.",
            field="classes",
            remedy=f"Name {classes}, in the order of the channels.",
        )
    try:
        if "input" in explicit:
            fields["input"] = {"channels": channels, **explicit["input"]}
        manifest = SemanticManifest.model_validate(
            {"name": request.name, "architecture": architecture, "files": {}, **vars(request.card), **fields}
        )
    except (ValidationError, TypeError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in first["loc"]) if first else "input"
        raise BadInput(
            f"This model cannot be described: {where}: {describe_invalid(first) if first else error}.",
            field=where or "manifest",
            remedy="Give what is right in --manifest, a YAML file.",
        ) from None
    if manifest.input.channels != channels:
        raise BadInput(
            f"The network takes {channels} channels, not {manifest.input.channels}.",
            field="input.channels",
            remedy="Leave it out.",
        )
    return manifest
