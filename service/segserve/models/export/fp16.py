"""Convert an encoder's graph to fp16, for GPUs: half the bytes, and the type that their matrix units compute fast.

Inputs and outputs stay float32. Values that could leave fp16's range stay float32 too: the norms over channels that SAM
writes out as means, squares and roots. LayerNormalization and Softmax can be fp16: ONNX computes the first in float32
(`stash_type`), and ONNX Runtime's CUDA kernel sums the second in float32.

Decoders stay float32 as a whole. They take a fraction of an encode's time, and a mask's outline lies where logits
cross zero. With every result rounded to fp16, the starter's masks agree with the float32 ones to a mean IoU of 0.995;
with only the encoder's results rounded, to 0.9995.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from segserve.errors import BrokenModel
from segserve.models.bundle import FP16_ENCODER_FILE, Bundle, write_manifest
from segserve.models.manifest import PromptableManifest
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.settings import count_cores

NORM_OPS = {"Pow", "ReduceMean", "Sqrt"}
# Operations that belong to a norm where they share a tensor with NORM_OPS.
NORM_ARITHMETIC_OPS = {"Add", "Sub", "Div"}
# Root mean square of the error over the standard deviation. SAM's vit_b has 8e-4.
TOLERANCE = 5e-3


def add_fp16_encoder(bundle: Bundle) -> Bundle:
    """Write encoder.fp16.onnx beside encoder.onnx, and list it in the manifest.

    Raises BrokenModel, and adds nothing, if the encoder's results in fp16 are off by more than the tolerance.
    """
    target = bundle.folder / FP16_ENCODER_FILE
    try:
        onnx.save(convert_graph_to_fp16(load_with_types(bundle.path("encoder.onnx"))), str(target))
        fp16_error = measure_fp16_error(bundle, target)
    except Exception as error:  # a foreign graph makes the converter and the runtime raise anything
        target.unlink(missing_ok=True)
        raise BrokenModel(f"The encoder cannot be had in fp16: {error}.") from error
    if fp16_error > TOLERANCE:
        target.unlink()
        raise BrokenModel(f"In fp16 the encoder is off by {fp16_error:.1e}, more than {TOLERANCE:.0e}.")
    return write_manifest(bundle.folder, bundle.manifest)


def load_with_types(path: Path) -> ModelProto:
    """Load the graph with the type of every tensor inferred."""
    # In the graph's folder, because the graph names its external data by relative paths.
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:
        onnx.shape_inference.infer_shapes_path(str(path), file.name)
        return onnx.load(file.name)


def convert_graph_to_fp16(model: ModelProto) -> ModelProto:
    """Convert the graph to fp16. model: a graph with the type of every tensor."""
    fp32_nodes = find_fp32_nodes(model.graph)
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=fp32_nodes, disable_shape_infer=True
    )
    # Between two float32 nodes the converter casts to fp16 and back. Connect them directly, so nothing is rounded.
    nodes = {node.output[0]: node for node in half.graph.node}
    narrowed = {name: n.input[0] for name, n in nodes.items() if n.name.endswith("_cast_to_fp16_node")}
    widened = {name: n.input[0] for name, n in nodes.items() if n.name.endswith("_cast_to_fp32_node")}
    direct = {wide: narrowed[name] for wide, name in widened.items() if name in narrowed}
    for node in nodes.values():
        for index, name in enumerate(node.input):
            node.input[index] = direct.get(name, name)
    replace_nodes(half.graph, list(nodes.values()))
    return half


def find_fp32_nodes(graph: GraphProto) -> list[str]:
    """Return the names of the nodes that stay float32."""
    tensors = {name for n in graph.node if n.op_type in NORM_OPS for name in (*n.input, *n.output)}
    return [
        n.name
        for n in graph.node
        if n.op_type in NORM_OPS or (n.op_type in NORM_ARITHMETIC_OPS and tensors & {*n.input, *n.output})
    ]


def replace_nodes(graph: GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def measure_fp16_error(bundle: Bundle, half: Path) -> float:
    """Return the largest error of the encoder's outputs on noise.

    An output's error is the root mean square of the difference over the standard deviation. It is infinite where a
    result is not finite.
    """
    size = bundle.expect(PromptableManifest).preprocess.input_size
    options = RuntimeOptions(threads=count_cores())
    encoder = OnnxGraph(bundle.path("encoder.onnx"), options)
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    inputs = {encoder.inputs[0]: image}
    expected = encoder.run(inputs)
    with tempfile.TemporaryDirectory(dir=bundle.folder) as work:
        rounded = Path(work) / "rounded.onnx"
        onnx.save(round_results_to_fp16(onnx.load(str(half))), str(rounded))
        actual = OnnxGraph(rounded, options).run(inputs)
    errors = [np.sqrt(np.square(actual[n] - a).mean()) / a.std() for n, a in expected.items()]
    return float(max(errors)) if np.isfinite(errors).all() else float("inf")


def round_results_to_fp16(half: ModelProto) -> ModelProto:
    """Return the fp16 graph with a rounding to fp16 after every result.

    On a CPU, ONNX Runtime computes an fp16 graph in float32. It leaves out the roundings in between, and with them any
    overflow.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    nodes = list(half.graph.node)
    for node in half.graph.node:
        for index, name in enumerate(node.output):
            if types.get(name) == TensorProto.FLOAT16:
                node.output[index] = f"{name}.exact"
                nodes += [
                    helper.make_node("Cast", [f"{name}.exact"], [f"{name}.wide"], to=TensorProto.FLOAT),
                    helper.make_node("Cast", [f"{name}.wide"], [name], to=TensorProto.FLOAT16),
                ]
    replace_nodes(half.graph, nodes)
    return half
