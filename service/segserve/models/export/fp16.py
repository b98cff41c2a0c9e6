"""An encoder's graph in fp16, for GPUs: half the bytes, and the type that their matrix units are fast in.

Inputs and outputs stay float32. What could leave fp16's range stays so too: the norms over channels that SAM writes
out as means, squares and roots. LayerNormalization and Softmax need not: ONNX has the first compute in float32
(`stash_type`), and ONNX Runtime's CUDA kernel sums the second in float32.

Decoders stay float32 as a whole. They run in a fraction of an encode's time, and a mask's outline is where logits
cross zero: with every result rounded to fp16 the starter's masks agree with themselves to a mean IoU of 0.995, with
only the encoder's rounded to 0.9995.
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
from segserve.models.onnx_runtime import OnnxGraph, RuntimeOptions
from segserve.settings import count_cores

NORM_OPS = {"Pow", "ReduceMean", "Sqrt"}
NORM_ARITHMETIC_OPS = {"Add", "Sub", "Div"}  # the rest of a norm, next to these
TOLERANCE = 5e-3  # root mean square of the error over the standard deviation; SAM's vit_b has 8e-4


def add_fp16_encoder(bundle: Bundle) -> Bundle:
    """Write encoder.fp16.onnx beside encoder.onnx, and both into the manifest.

    Raises BrokenModel, and adds nothing, where the encoder does not give the same in fp16.
    """
    target = bundle.folder / FP16_ENCODER_FILE
    try:
        onnx.save(convert_to_fp16(load_with_types(bundle.path("encoder.onnx"))), str(target))
        off = measure_fp16_error(bundle, target)
    except Exception as error:  # whatever a graph from elsewhere makes the converter and the runtime raise
        target.unlink(missing_ok=True)
        raise BrokenModel(f"The encoder cannot be had in fp16: {error}.") from error
    if off > TOLERANCE:
        target.unlink()
        raise BrokenModel(f"In fp16 the encoder is off by {off:.1e}, more than {TOLERANCE:.0e}.")
    return write_manifest(bundle.folder, bundle.manifest)


def load_with_types(path: Path) -> ModelProto:
    """The graph with the type of every tensor."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:  # beside its external data
        onnx.shape_inference.infer_shapes_path(str(path), file.name)
        return onnx.load(file.name)


def convert_to_fp16(model: ModelProto) -> ModelProto:
    """The graph, whose types are known, in fp16."""
    blocked = find_fp32_nodes(model.graph)
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=blocked, disable_shape_infer=True
    )
    # The converter narrows what goes from one float32 node to the next, and widens a tensor once for each reader.
    nodes = {node.output[0]: node for node in half.graph.node}
    narrowed = {name: n.input[0] for name, n in nodes.items() if n.name.endswith("_cast_to_fp16_node")}
    widened = {name: n.input[0] for name, n in nodes.items() if n.name.endswith("_cast_to_fp32_node")}
    direct = {wide: narrowed[name] for wide, name in widened.items() if name in narrowed}
    for node in nodes.values():
        for at, name in enumerate(node.input):
            node.input[at] = direct.get(name, name)
    replace_nodes(half.graph, list(nodes.values()))
    return half


def find_fp32_nodes(graph: GraphProto) -> list[str]:
    """The names of the nodes that stay float32."""
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
    """The largest of its outputs' errors on noise, each the root mean square over the standard deviation; infinite
    where one is not finite."""
    size, options = (
        bundle.expect(PromptableManifest).preprocess.input_size,
        RuntimeOptions(threads=count_cores()),
    )
    whole = OnnxGraph(bundle.path("encoder.onnx"), options)
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    expected = whole.run({whole.inputs[0]: image})
    with tempfile.TemporaryDirectory(dir=bundle.folder) as work:
        honest = Path(work) / "rounded.onnx"
        onnx.save(round_results_to_fp16(onnx.load(str(half))), str(honest))
        found = OnnxGraph(honest, options).run({whole.inputs[0]: image})
    errors = [np.sqrt(np.square(found[n] - a).mean()) / a.std() for n, a in expected.items()]
    return float(max(errors)) if np.isfinite(errors).all() else float("inf")


def round_results_to_fp16(half: ModelProto) -> ModelProto:
    """The fp16 graph with every result really rounded. On a CPU ONNX Runtime computes it in float32 and leaves out
    the roundings in between, and with them any overflow."""
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    nodes = list(half.graph.node)
    for node in half.graph.node:
        for at, name in enumerate(node.output):
            if types.get(name) == TensorProto.FLOAT16:
                node.output[at] = f"{name}.exact"
                nodes += [
                    helper.make_node("Cast", [f"{name}.exact"], [f"{name}.wide"], to=TensorProto.FLOAT),
                    helper.make_node("Cast", [f"{name}.wide"], [name], to=TensorProto.FLOAT16),
                ]
    replace_nodes(half.graph, nodes)
    return half
