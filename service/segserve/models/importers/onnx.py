"""Any ONNX graph with an image [N, C, H, W] in and a value for each class and pixel [N, K, H, W] out, such as
TransUNet's. Only ONNX Runtime looks into it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import write_manifest
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest, read_explicit_fields
from segserve.models.importers.import_request import ImportRequest
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.onnx_runtime import OnnxGraph, RuntimeOptions
from segserve.settings import count_cores
from segserve.types import Float32

GRAPH_FILE = "model.onnx"
MAX_MULTIPLE = 1024
TRIAL_EDGE_PX = 256  # pixels a side, where the graph leaves that open


def write_bundle(request: ImportRequest) -> None:
    """Raises BadInput where it is no such graph."""
    if request.variant is not None:
        raise BadInput("An ONNX graph has no variants.", field="variant", remedy="Leave --variant out.")
    if not request.checkpoint.is_file():
        raise BadInput(
            f"There is no file {request.checkpoint}.", field="checkpoint", remedy="Give an .onnx file."
        )
    request.on_stage("copying the graph")
    shutil.copyfile(request.checkpoint, request.folder / GRAPH_FILE)
    request.on_stage("running it once")
    write_manifest(request.folder, inspect_graph(request.folder / GRAPH_FILE, request, {}, "onnx"))


def inspect_graph(
    path: Path, request: ImportRequest, found: dict[str, Any], architecture: str
) -> SemanticManifest:
    """What the graph, run once on noise, shows of itself. found: what else is known. Raises BadInput."""
    try:
        graph = OnnxGraph(path, RuntimeOptions(threads=count_cores()))
    except BrokenModel as error:
        raise BadInput(
            f"This is not an ONNX graph that can be run: {error.message[:200]}",
            field="checkpoint",
            remedy="Give one .onnx file that holds its weights itself.",
        ) from error
    channels, shape = read_input_shape(graph)
    sizes: dict[str, Any] = dict(found)
    if shape is not None:
        sizes |= {"fixed": True, "tile": shape, "multiple": 1}
    asked = {**sizes, **read_explicit_fields(request)}
    multiple = asked.get("multiple", 32)
    if not isinstance(multiple, int) or not 1 <= multiple <= MAX_MULTIPLE:
        raise BadInput(
            f"multiple cannot be {multiple!r}.",
            field="manifest",
            remedy=f"Give a whole number from 1 to {MAX_MULTIPLE}, such as 32.",
        )
    height, width = shape or (max(1, round(TRIAL_EDGE_PX / multiple)) * multiple,) * 2
    noise = np.random.default_rng(0).random((1, channels, height, width), dtype=np.float32)
    answer = run_once(graph, noise)
    sizes.setdefault("activation", guess_activation(answer))
    manifest = build_semantic_manifest(
        request, architecture, channels=channels, classes=answer.shape[1], found=sizes
    )
    if shape is not None and (not manifest.fixed or manifest.tile != shape):
        raise BadInput(
            f"The graph takes {shape[0]} x {shape[1]} alone.", field="tile", remedy="Leave it out."
        )
    return manifest


def read_input_shape(graph: OnnxGraph) -> tuple[int, tuple[int, int] | None]:
    """(channels, (height, width) where the graph fixes them). Raises BadInput."""
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
    """Raises BadInput where that is no [N, K, H, W] float32."""
    try:
        [answer] = graph.run({graph.inputs[0]: images}).values()
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise BadInput(
            f"The graph fails on an image of {images.shape[2]} x {images.shape[3]}: {str(error)[:200]}.",
            field="multiple",
            remedy="Say in --manifest which 'multiple' its height and width must have.",
        ) from error
    size = images.shape[2:]
    if answer.ndim != 4 or answer.dtype != np.float32 or answer.shape[2:] != size or answer.shape[0] != 1:
        raise BadInput(
            f"The graph answers {answer.dtype} of shape {list(answer.shape)} for an image of {size[0]} x {size[1]}.",
            field="checkpoint",
            remedy="Export it with an output of float32 [N, K, H, W]: a value for each class, not the class.",
        )
    return answer


def guess_activation(answer: Float32) -> Activation:
    """Values of 0 to 1 are probabilities already; otherwise one channel is sigmoid, several softmax."""
    if answer.min() >= 0 and answer.max() <= 1:
        return Activation.NONE
    return Activation.SIGMOID if answer.shape[1] == 1 else Activation.SOFTMAX
