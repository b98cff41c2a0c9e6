"""Import SAM vit_b, vit_l, vit_h, and fine-tunes that kept the architecture, without torch. Other importers use it.

The graphs are templates of `segserve.models.templates`, filled with the checkpoint's tensors; see `import_by_template`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from segserve.errors import BadInput
from segserve.models.importers.import_by_template import describe, write_from_templates
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint
from segserve.models.manifest import PromptKind
from segserve.models.templates.architectures import SAM_ARCHITECTURES, SamArchitecture

PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
VARIANTS = ("vit_b", "vit_l", "vit_h")
# The start of a key -> the models that have such keys, and how to import them.
HINTS = {
    "image_encoder.layers.": (
        ("MobileSAM", "LiteMedSAM"),
        "This looks like MobileSAM or LiteMedSAM: import it as mobile_sam or lite_medsam.",
    ),
    "image_encoder.trunk.": (("SAM 2",), "This looks like SAM 2: import it as sam2."),
    "image_encoder.blocks.": (("SAM", "MedSAM"), "This looks like SAM: import it as sam."),
}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    import_sam(request, VARIANTS, "SAM")


def import_sam(
    request: ImportRequest,
    variants: Iterable[str],
    what: str,
    preprocess: Mapping[str, Any] | None = None,
    prompts: tuple[PromptKind, ...] = tuple(PromptKind),
) -> None:
    """Write the bundle of a model with SAM's decoders. Raises BadInput, BrokenModel.

    variants: the architectures that the checkpoint may have. what: the model's name, for messages.
    preprocess: fields of a `PreprocessEntry` that differ from the architecture's. prompts: what it is trained for.
    """
    request.on_stage("reading the checkpoint")
    state = read_checkpoint(request.checkpoint)
    architecture = find_architecture(state, request.variant, tuple(variants), what)
    preprocess_entry = architecture.preprocess.model_copy(update=dict(preprocess or {}))
    manifest = describe(request, architecture).model_copy(
        update={"preprocess": preprocess_entry, "prompts": prompts}
    )
    write_from_templates(request, state, architecture, f"{what} {architecture.name}", PARTS, manifest)


def find_architecture(
    state: StateDict, variant: str | None, variants: tuple[str, ...], what: str
) -> SamArchitecture:
    """Return the architecture of that name, or the one whose first convolution fits. Raises BadInput."""
    if variant is not None and variant not in variants:
        raise BadInput(
            f"{what} has no variant {variant!r}.", field="variant", remedy=f"Known: {', '.join(variants)}."
        )
    if variant is not None:
        return SAM_ARCHITECTURES[variant]
    known = [SAM_ARCHITECTURES[name] for name in variants]
    for architecture in known:
        shape = state[architecture.patches].shape if architecture.patches in state else ()
        if shape[:1] == (architecture.width,) and shape[-1] == architecture.kernel:
            return architecture
    remedy = f"Expected {known[0].patches!r} of {', '.join(str(a.width) for a in known)} channels."
    for start, (names, hint) in HINTS.items():
        is_other = what not in names or len(names) > 1
        if is_other and any(key.startswith(start) for key in state):
            remedy = hint
    raise BadInput(
        f"This is not a checkpoint of {what} {', '.join(variants)}.", field="checkpoint", remedy=remedy
    )
