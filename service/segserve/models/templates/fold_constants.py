"""Fold the constants of an ONNX graph: compute every node that depends on weights and constants alone.

ONNX Runtime computes these nodes, so a folded graph holds what the graph itself would have computed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[Any]]


def fold_constants(model: ModelProto, weights: Arrays, unknown: frozenset[str] = frozenset()) -> ModelProto:
    """Return the graph without the nodes that depend on `weights` and constants alone; their results are initialisers.

    weights: the values of the initialisers that have no data in `model`, by name.
    unknown: initialisers whose values are not known yet: what depends on them stays.
    """
    graph = model.graph
    stored = {t.name: t for t in graph.initializer if t.name not in weights and t.name not in unknown}
    known = {*stored, *weights}
    folded: list[NodeProto] = []
    kept: list[NodeProto] = []
    for node in graph.node:
        if not has_subgraph(node) and all(name in known for name in node.input if name):
            folded.append(node)
            known.update(node.output)
        else:
            kept.append(node)
    wanted = {name for node in kept for name in (*node.input, *names_in_subgraphs(node))}
    wanted |= {value.name for value in graph.output}
    computed = [name for node in folded for name in node.output if name in wanted]
    values = run_nodes(model, folded, computed, stored, weights)
    result = ModelProto()
    result.CopyFrom(without_initializers(model))
    del result.graph.node[:]
    result.graph.node.extend(kept)
    result.graph.initializer.extend(t for t in graph.initializer if t.name in unknown & wanted)
    result.graph.initializer.extend(t for name, t in stored.items() if name in wanted)
    for name in (*(n for n in weights if n in wanted), *computed):
        value = values[name] if name in values else weights[name]
        result.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return result


def run_nodes(
    model: ModelProto,
    nodes: list[NodeProto],
    outputs: list[str],
    stored: Mapping[str, TensorProto],
    weights: Arrays,
) -> dict[str, NDArray[Any]]:
    """Run `nodes` and return their `outputs` by name. Weights are fed: inside a graph they might exceed 2 GiB."""
    if not outputs:
        return {}
    read = {name for node in nodes for name in node.input}
    feeds = {name: np.asarray(value, order="C") for name, value in weights.items() if name in read}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    part = helper.make_graph(
        nodes,
        "constants",
        inputs,
        [ValueInfoProto(name=name) for name in outputs],
        [tensor for name, tensor in stored.items() if name in read],
    )
    constants = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        constants.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(outputs, session.run(outputs, feeds), strict=True))


def without_initializers(model: ModelProto) -> ModelProto:
    """Return a copy of the model without initialisers, and without copying their data."""
    graph = model.graph
    copy = helper.make_model(
        helper.make_graph(graph.node, graph.name, graph.input, graph.output),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    copy.metadata_props.extend(model.metadata_props)
    return copy


def has_subgraph(node: NodeProto) -> bool:
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def names_in_subgraphs(node: NodeProto) -> set[str]:
    """Return the names that the node's subgraphs read; some may be of the outer graph."""
    graphs = [g for a in node.attribute for g in ([a.g] if a.type == AttributeProto.GRAPH else a.graphs)]
    inner = [n for graph in graphs for n in graph.node]
    names = {name for n in inner for name in (*n.input, *names_in_subgraphs(n))}
    return names | {value.name for graph in graphs for value in graph.output}
