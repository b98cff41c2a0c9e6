"""One template: an ONNX graph whose initialisers have names and shapes, but no values."""

import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from segserve.models.templates.fold_constants import fold_constants

TEMPLATES_FOLDER = Path(__file__).parent / "data"
SUFFIX = ".onnx.xz"
# Marks an initialiser whose value comes from the checkpoint.
FROM_CHECKPOINT = "from checkpoint"
# The model's metadata with the names of tensors that the library stores and the graph does not read.
UNREAD_TENSORS = "unread_tensors"
# protobuf cannot hold more than 2 GiB: a larger graph keeps its weights in a file of their own.
MAX_GRAPH_BYTES = 2_000_000_000

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class GraphTemplate:
    """A graph without weights.

    shapes: of every tensor that the graph reads from a checkpoint, by its name there.
    unread: names of tensors that belong to the architecture, but do not affect the graph.
    """

    model: ModelProto
    shapes: Mapping[str, tuple[int, ...]]
    unread: frozenset[str]

    def fill(self, weights: Arrays) -> ModelProto:
        """Return the graph with a checkpoint's weights. weights: every tensor of `shapes`, of that shape."""
        return fold_constants(self.model, {name: weights[name] for name in self.shapes})


def as_template(model: ModelProto, names: Mapping[str, str], unread: Iterable[str]) -> ModelProto:
    """Turn a graph into a template, in place.

    names: the graph's initialiser -> the checkpoint's name for it. Other initialisers stay as they are.
    """
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    for tensor in model.graph.initializer:
        if tensor.name in names:
            dims, data_type, name = list(tensor.dims), tensor.data_type, names[tensor.name]
            tensor.Clear()
            tensor.dims.extend(dims)
            tensor.data_type, tensor.name, tensor.doc_string = data_type, name, FROM_CHECKPOINT
    model.metadata_props.add(key=UNREAD_TENSORS, value=json.dumps(sorted(unread)))
    shapes = parse_template(model).shapes
    return number_names(fold_constants(model, {}, frozenset(shapes)))


def number_names(model: ModelProto) -> ModelProto:
    """Number nodes, their results and stored constants in order, in place: an exporter's names differ between networks
    that have the same graph."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    kept |= {tensor.name for tensor in graph.initializer if tensor.doc_string == FROM_CHECKPOINT}
    names: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        node.name = f"node_{index}"
        node.ClearField("doc_string")
        for values in (node.input, node.output):
            for position, name in enumerate(values):
                if name and name not in kept:
                    values[position] = names.setdefault(name, f"value_{len(names)}")
    constants = [tensor for tensor in graph.initializer if tensor.name in names]
    for tensor in constants:
        tensor.name = names[tensor.name]
    tensors = sorted(graph.initializer, key=lambda tensor: tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def parse_template(model: ModelProto) -> GraphTemplate:
    shapes = {
        tensor.name: tuple(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.doc_string == FROM_CHECKPOINT
    }
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return GraphTemplate(model, shapes, frozenset(json.loads(metadata.get(UNREAD_TENSORS, "[]"))))


def write_template(model: ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compress_template(model))


def compress_template(model: ModelProto) -> bytes:
    return lzma.compress(model.SerializeToString(deterministic=True), preset=9 | lzma.PRESET_EXTREME)


def read_template(name: str) -> GraphTemplate:
    """Read a template. name: such as "vit_t/encoder"."""
    content = lzma.decompress((TEMPLATES_FOLDER / f"{name}{SUFFIX}").read_bytes())
    return parse_template(onnx.load_model_from_string(content))


def save_graph(model: ModelProto, path: Path) -> None:
    """Write a filled graph; one over protobuf's limit writes its weights beside it, as `<name>.data`."""
    sizes = (
        np.prod(t.dims) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        for t in model.graph.initializer
    )
    is_large = sum(int(size) for size in sizes) > MAX_GRAPH_BYTES
    if is_large:
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save(model, str(path))
