"""Import SAM vit_b, vit_l, vit_h, and fine-tunes that kept the architecture, without torch. Other importers use it.

The graphs are templates of `segserve.models.templates`, filled with the checkpoint's tensors. `make templates` and its
test compare the templates with segment-anything. An import compares the two decoders of the bundle, which are two
independent graphs, and the embedding of a published checkpoint with the one that its own library computed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from safetensors.numpy import save_file

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import PROMPTABLE_NETWORK, WEIGHTS_FILE, file_sha256, write_manifest
from segserve.models.export.fp16 import add_fp16_encoder
from segserve.models.importers.check_tensors import check_tensors
from segserve.models.importers.compare_decoders import compare_decoders
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint
from segserve.models.manifest import ModelKind, PromptableManifest, PromptKind
from segserve.models.templates.architectures import SAM_ARCHITECTURES, SamArchitecture
from segserve.models.templates.graph_template import GraphTemplate, read_template, save_graph
from segserve.models.templates.published_embeddings import find_published_embedding

log = structlog.get_logger(__name__)

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
    templates = {graph: read_template(name) for graph, name in architecture.templates.items()}
    weights = select_weights(state, templates, f"{what} {architecture.name}", complete=request.keep_weights)
    if request.keep_weights:
        save_file({f"{PROMPTABLE_NETWORK}.{k}": v for k, v in weights.items()}, request.folder / WEIGHTS_FILE)
    request.on_stage("writing ONNX graphs")
    for graph, template in templates.items():
        save_graph(template.fill(weights), request.folder / f"{graph}.onnx")
    bundle = write_manifest(request.folder, describe(request, architecture, preprocess, prompts))
    request.on_stage("comparing the decoders")
    compare_decoders(bundle, find_published_embedding(file_sha256(request.checkpoint)))
    request.on_stage("writing the encoder in fp16")
    try:
        add_fp16_encoder(bundle)
    except BrokenModel as error:  # the model works without it: a GPU runs the encoder in float32
        log.warning("no fp16 encoder", name=request.name, reason=str(error))


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


def select_weights(
    state: StateDict, templates: Mapping[str, GraphTemplate], what: str, *, complete: bool
) -> StateDict:
    """Return the tensors that the architecture knows, float32. Raises BadInput.

    complete: also require those that no graph reads, for the reference library to load them.
    """
    expected = {name: shape for template in templates.values() for name, shape in template.shapes.items()}
    unread = {name for template in templates.values() for name in template.unread}
    shapes = {name: value.shape for name, value in state.items()}
    check_tensors(shapes, expected, what, PARTS, unread)
    missing = [name for name in sorted(unread) if name not in state]
    if complete and missing:
        raise BadInput(
            f"The checkpoint lacks {missing[0]}, which the library needs to load the weights.",
            field="keep_weights",
            remedy="Leave --keep-weights out.",
        )
    return {
        name: state[name].astype("float32", copy=False) if state[name].dtype.kind == "f" else state[name]
        for name in (*expected, *(unread & state.keys()))
    }


def describe(
    request: ImportRequest,
    architecture: SamArchitecture,
    preprocess: Mapping[str, Any] | None,
    prompts: tuple[PromptKind, ...],
) -> PromptableManifest:
    return PromptableManifest(
        name=request.name,
        kind=ModelKind.SAM,
        architecture=architecture.name,
        **vars(request.card),
        files={},
        preprocess=architecture.preprocess.model_copy(update=dict(preprocess or {})),
        dims=architecture.dims,
        prompts=prompts,
    )
