"""Write a promptable bundle from templates and a checkpoint's tensors, and check it. Needs no torch.

`make templates` and its test compare the templates with the reference libraries. An import compares the two decoders of
the bundle, which are two independent graphs, and the embedding of a published checkpoint with the one that its own
library computed.
"""

from collections.abc import Iterable, Mapping

import structlog
from safetensors.numpy import save_file

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import PROMPTABLE_NETWORK, WEIGHTS_FILE, file_sha256, write_manifest
from segserve.models.export.fp16 import add_fp16_encoder
from segserve.models.importers.check_tensors import check_tensors, to_float32
from segserve.models.importers.compare_decoders import compare_decoders
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.read_checkpoint import StateDict
from segserve.models.manifest import PromptableManifest
from segserve.models.templates.architectures import SamArchitecture
from segserve.models.templates.graph_template import GraphTemplate, read_template, save_graph
from segserve.models.templates.published_embeddings import find_published_embedding

log = structlog.get_logger(__name__)


def write_from_templates(
    request: ImportRequest,
    state: StateDict,
    architecture: SamArchitecture,
    what: str,
    parts: Iterable[str],
    manifest: PromptableManifest,
) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel.

    what: the name of the architecture, for messages. parts: prefixes of the parts that the graphs hold.
    """
    templates = {graph: read_template(name) for graph, name in architecture.templates.items()}
    weights = select_weights(state, templates, what, parts, complete=request.keep_weights)
    if request.keep_weights:
        save_file({f"{PROMPTABLE_NETWORK}.{k}": v for k, v in weights.items()}, request.folder / WEIGHTS_FILE)
    request.on_stage("writing ONNX graphs")
    for graph, template in templates.items():
        save_graph(template.fill(weights), request.folder / f"{graph}.onnx")
    bundle = write_manifest(request.folder, manifest)
    request.on_stage("comparing the decoders")
    compare_decoders(bundle, find_published_embedding(file_sha256(request.checkpoint)))
    request.on_stage("writing the encoder in fp16")
    try:
        add_fp16_encoder(bundle)
    except BrokenModel as error:  # the model works without it: a GPU runs the encoder in float32
        log.warning("no fp16 encoder", name=request.name, reason=str(error))


def select_weights(
    state: StateDict,
    templates: Mapping[str, GraphTemplate],
    what: str,
    parts: Iterable[str],
    *,
    complete: bool,
) -> StateDict:
    """Return the tensors that the architecture knows, float32. Raises BadInput.

    parts: prefixes of the parts that the graphs hold.
    complete: also require those that no graph reads, for the reference library to load them.
    """
    expected = {name: shape for template in templates.values() for name, shape in template.shapes.items()}
    unread = {name for template in templates.values() for name in template.unread}
    shapes = {name: value.shape for name, value in state.items()}
    check_tensors(shapes, expected, what, parts, unread)
    missing = [name for name in sorted(unread) if name not in state]
    if complete and missing:
        raise BadInput(
            f"The checkpoint lacks {missing[0]}, which the library needs to load the weights.",
            field="keep_weights",
            remedy="Leave --keep-weights out.",
        )
    rest = unread & state.keys()
    floats = [name for name in rest if state[name].dtype.kind == "f"]
    return {**{name: state[name] for name in rest}, **to_float32(state, [*expected, *floats], what)}


def describe(request: ImportRequest, architecture: SamArchitecture) -> PromptableManifest:
    """Return the manifest of a model of that architecture."""
    return PromptableManifest(
        name=request.name,
        kind=architecture.kind,
        architecture=architecture.name,
        **vars(request.card),
        files={},
        preprocess=architecture.preprocess,
        dims=architecture.dims,
    )
