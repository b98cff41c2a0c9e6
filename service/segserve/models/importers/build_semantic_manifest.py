"""What the importers of semantic models share. No torch is needed here."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from segserve.errors import BadInput
from segserve.models.importers.import_request import ImportRequest
from segserve.models.manifest import Activation, SemanticManifest

BACKGROUND = "background"  # a class of this name is it
# What weights and packages may not tell, or tell wrongly.
EXPLICIT_FIELDS = (
    "classes",
    "background",
    "activation",
    "thresholds",
    "input",
    "multiple",
    "tile",
    "overlap",
    "postprocess",
)


def read_explicit_fields(request: ImportRequest) -> dict[str, Any]:
    """Fields of `SemanticManifest` that the caller gives; they win over what the importer finds. Raises
    BadInput."""
    given: Any = {}
    if request.manifest is not None:
        try:
            given = yaml.safe_load(request.manifest.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            raise BadInput(f"{request.manifest} cannot be read: {error}.", field="manifest") from None
        unknown = [str(key) for key in given if key not in EXPLICIT_FIELDS] if isinstance(given, dict) else []
        if not isinstance(given, dict) or unknown:
            raise BadInput(
                f"{request.manifest.name} says {', '.join(unknown) or 'nothing'} that an import could use.",
                field="manifest",
                remedy=f"Give a mapping with any of {', '.join(EXPLICIT_FIELDS)}.",
            )
    return {**given, "classes": list(request.classes)} if request.classes else given


def build_semantic_manifest(
    request: ImportRequest, architecture: str, *, channels: int, classes: int, found: Mapping[str, Any]
) -> SemanticManifest:
    """The manifest of a network that takes `channels` and answers `classes` channels. found: what the importer
    knows, fields by name. Where nobody says, one class is sigmoid, and several are softmax. Where nobody names
    them the first is background; of names, the one that is `background`. Raises BadInput naming what cannot be."""
    given = read_explicit_fields(request)
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
        **found,
        **given,
    }
    if not isinstance(fields["classes"], list | tuple):
        raise BadInput(
            "classes is not a list.", field="classes", remedy="Name them, in the order of the channels."
        )
    if "background" not in fields and classes > 1 and BACKGROUND in fields["classes"]:
        fields["background"] = list(fields["classes"]).index(BACKGROUND)
    if len(fields["classes"]) != classes:
        raise BadInput(
            f"The network answers {classes} channels, and {len(fields['classes'])} classes are named.",
            field="classes",
            remedy=f"Name {classes}, in the order of the channels.",
        )
    try:
        if "input" in given:
            fields["input"] = {"channels": channels, **given["input"]}
        manifest = SemanticManifest.model_validate(
            {"name": request.name, "architecture": architecture, "files": {}, **vars(request.card), **fields}
        )
    except (ValidationError, TypeError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in first["loc"]) if first else "input"
        raise BadInput(
            f"This model cannot be described: {where}: {first['msg'] if first else error}.",
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
