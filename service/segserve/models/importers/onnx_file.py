"""Read the ONNX graph of a file from a stranger: .onnx, or ONNX Runtime's .ort. The file must hold all of its weights.

A graph may name other files that its weights are in. Such a name can lead anywhere on this machine, so it is refused.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from segserve.errors import BadInput, TooLarge
from segserve.models.importers.ort_file import DamagedOrtFile, is_ort_file, parse_ort_file

# protobuf cannot hold more.
MAX_FILE_BYTES = (2 << 30) - 1
HEAD_BYTES = 8


def read_onnx_file(path: Path, field: str = "checkpoint") -> ModelProto:
    """Return the graph with its weights. field: the request's, for messages.

    Raises BadInput (no file, no graph, weights in other files), TooLarge.
    """
    if not path.is_file():
        raise BadInput(f"There is no file {path}.", field=field, remedy="Give an .onnx or .ort file.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise TooLarge(f"{path.name} has more than {MAX_FILE_BYTES >> 20} MiB.", field=field)
    content = path.read_bytes()
    try:
        if is_ort_file(content[:HEAD_BYTES]):
            return parse_ort_file(content)
        model = onnx.load_model_from_string(content)
    except DamagedOrtFile as error:
        raise BadInput(
            f"{path.name} cannot be read as an .ort file: {error}.",
            field=field,
            remedy="Is the download complete? Otherwise export the model as .onnx.",
        ) from error
    except (DecodeError, RecursionError) as error:
        raise no_graph(path, field) from error
    if not model.graph.node:
        raise no_graph(path, field)
    for tensor in (*all_tensors(model.graph), *function_tensors(model)):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BadInput(
                f"{path.name} has weights in another file.",
                field=field,
                remedy="Give one file that holds its weights itself: onnx.save(onnx.load(...), ...) writes it.",
            )
    return model


def store_onnx_file(model: ModelProto, source: Path, target: Path, *, is_changed: bool = False) -> None:
    """Write a graph that was read from `source`: the file as it is, where it is .onnx and the graph did not change."""
    with source.open("rb") as file:
        is_ort = is_ort_file(file.read(HEAD_BYTES))
    if is_changed or is_ort:
        onnx.save(model, str(target))
    else:
        shutil.copyfile(source, target)


def no_graph(path: Path, field: str) -> BadInput:
    return BadInput(
        f"{path.name} is not an ONNX graph.",
        field=field,
        remedy="Give an .onnx or .ort file; is the download complete?",
    )


def all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every stored tensor of a graph, of its nodes' attributes and of its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute_tensors(attribute)


def function_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor of a model's own functions, which nodes call as operators."""
    for function in model.functions:
        for attribute in (*function.attribute_proto, *(a for node in function.node for a in node.attribute)):
            yield from attribute_tensors(attribute)


def attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    for graph in (attribute.g, *attribute.graphs):
        yield from all_tensors(graph)
