"""Import any ONNX graph that maps an image [N, C, H, W] to a value for each class and pixel [N, K, H, W].

TransUNet is an example.
"""

from pathlib import Path
from typing import Any

import numpy as np

from segserve.errors import BadInput, BrokenModel, SegserveError
from segserve.models.bundle import write_manifest
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest, read_explicit_fields
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.onnx_file import read_onnx_file, store_onnx_file
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Float32

GRAPH_FILE = "model.onnx"
MAX_MULTIPLE = 1024
DEFAULT_MULTIPLE = 32
# Edge of the trial image, where the graph does not fix it.
TRIAL_EDGE_PX = 256


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle of a graph, after one trial run. Raises BadInput where it is no such graph."""
    if request.variant is not None:
        raise BadInput("An ONNX graph has no variants.", field="variant", remedy="Leave --variant out.")
    request.on_stage("reading the graph")
    model = read_onnx_file(request.checkpoint)
    path = request.folder / GRAPH_FILE
    store_onnx_file(model, request.checkpoint, path)
    if len(model.graph.output) > 1 and has_stages(open_graph(path)):
        del model.graph.output[1:]
        store_onnx_file(model, request.checkpoint, path, is_changed=True)
    request.on_stage("running it once")
    write_manifest(request.folder, inspect_graph(path, request, {}, "onnx"))


def has_stages(graph: OnnxGraph) -> bool:
    """Whether the graph returns several arrays of one shape for an image.

    Networks that are trained by deep supervision, such as U2-Net, return the answer first, and then that of each stage.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) < 2 or len(graph.input_shape) != 4:
        return False
    batch, channels, *size = (each if isinstance(each, int) else None for each in graph.input_shape)
    shape = (batch or 1, channels or 3, *(edge or TRIAL_EDGE_PX for edge in size))
    try:
        outputs = graph.run({graph.inputs[0]: np.zeros(shape, np.float32)}).values()
    except (
        Exception
    ):  # ONNX Runtime's errors share no base class; the graph is refused with a reason afterwards
        return False
    shapes = {array.shape for array in outputs}
    return len(shapes) == 1 and all(len(shape) == 4 for shape in shapes)


def inspect_graph(
    path: Path, request: ImportRequest, detected: dict[str, Any], architecture: str
) -> SemanticManifest:
    """Run the graph once on noise, and return the manifest with what this shows. Raises BadInput.

    detected: fields of the manifest that are known already.
    """
    graph = open_graph(path)
    channels, shape = read_input_shape(graph)
    detected = dict(detected)
    if shape is not None:
        detected |= {"fixed": True, "tile": shape, "multiple": 1}
    multiple = {**detected, **read_explicit_fields(request)}.get("multiple", DEFAULT_MULTIPLE)
    if not isinstance(multiple, int) or not 1 <= multiple <= MAX_MULTIPLE:
        raise BadInput(
            f"multiple cannot be {multiple!r}.",
            field="manifest",
            remedy=f"Give a whole number from 1 to {MAX_MULTIPLE}, such as 32.",
        )
    height, width = shape or (max(1, round(TRIAL_EDGE_PX / multiple)) * multiple,) * 2
    noise = np.random.default_rng(0).random((1, channels, height, width), dtype=np.float32)
    output = run_once(graph, noise)
    detected.setdefault("activation", guess_activation(output))
    manifest = build_semantic_manifest(
        request, architecture, channels=channels, classes=output.shape[1], detected=detected
    )
    if shape is not None and (not manifest.fixed or manifest.tile != shape):
        raise BadInput(f"The graph takes only {shape[0]} x {shape[1]}.", field="tile", remedy="Leave it out.")
    return manifest


def open_graph(path: Path) -> OnnxGraph:
    """Open a graph. Raises BadInput."""
    try:
        return OnnxGraph(path, RuntimeOptions.for_trial())
    except BrokenModel as error:
        raise BadInput(
            "This is not an ONNX graph that ONNX Runtime can run.",
            field="checkpoint",
            remedy="Is it whole? Otherwise export it for a newer or older opset.",
        ) from error


def read_input_shape(graph: OnnxGraph) -> tuple[int, tuple[int, int] | None]:
    """Return (channels, (height, width)); None in place of a size that the graph does not fix. Raises BadInput."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise BadInput(
            f"The graph has inputs {', '.join(graph.inputs)} and outputs {', '.join(graph.outputs)}.",
            field="checkpoint",
            remedy="Export it with one input, the image, and one output, the classes.",
        )
    shape, kind = graph.input_shape, graph.input_type
    if len(shape) != 4 or kind != "tensor(float)" or not isinstance(shape[1], int):
        raise BadInput(
            f"The graph takes {kind} of shape {list(shape)}.",
            field="checkpoint",
            remedy="Export it with an input of float32 [N, C, H, W], where C is 1 or 3.",
        )
    height, width = shape[2:]
    if isinstance(height, int) and isinstance(width, int):
        return shape[1], (height, width)
    if isinstance(height, int) or isinstance(width, int):
        raise BadInput(
            f"The graph fixes one side of its input, {list(shape)}.",
            field="checkpoint",
            remedy="Export it with both fixed, or both free.",
        )
    return shape[1], None


def run_once(graph: OnnxGraph, images: Float32) -> Float32:
    """Run the graph and return its output. Raises BadInput where that is not [N, K, H, W] float32."""
    try:
        [output] = graph.run({graph.inputs[0]: images}).values()
    except SegserveError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise BadInput(
            f"The graph fails on an image of {images.shape[2]} x {images.shape[3]}.",
            field="multiple",
            remedy="Say in --manifest which 'multiple' its height and width must have.",
        ) from error
    size = images.shape[2:]
    if output.ndim != 4 or output.dtype != np.float32 or output.shape[2:] != size or output.shape[0] != 1:
        raise BadInput(
            f"The graph returns {output.dtype} of shape {list(output.shape)} for an image of {size[0]} x {size[1]}.",
            field="checkpoint",
            remedy="Export it with an output of float32 [N, K, H, W]: a value for each class, not the class.",
        )
    return output


def guess_activation(output: Float32) -> Activation:
    """Guess the activation: none for values from 0 to 1, otherwise sigmoid for one channel and softmax for several."""
    if output.min() >= 0 and output.max() <= 1:
        return Activation.NONE
    return Activation.SIGMOID if output.shape[1] == 1 else Activation.SOFTMAX
