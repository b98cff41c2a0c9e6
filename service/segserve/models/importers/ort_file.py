"""Read ONNX Runtime's own format, .ort, into an ONNX model. No native code reads the file.

An .ort file is a flatbuffer (onnxruntime/core/flatbuffers/schema/ort.fbs). ONNX Runtime would use its offsets as they
are. This module checks each offset against the file and bounds what is read, because offsets may point at the same
bytes many times. What ONNX Runtime notes for itself (edges, kernels, optimisations for later) is left out.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

IDENTIFIER = b"ORTM"
IDENTIFIER_OFFSET = 4
# Tables, texts and numbers that are read from a file: SAM 2 large has 20 thousand.
MAX_ITEMS = 2_000_000
MAX_TEXT_BYTES = 4096
MAX_SUBGRAPHS = 4  # one in another
MAX_DIMENSIONS = 32
PRIMITIVE_NODE = 0
DIM_VALUE, DIM_PARAM = 1, 2
TENSOR_TYPE = 1

# The fields of the tables, by their place in the schema.
SESSION_MODEL = 1
MODEL_IR_VERSION, MODEL_OPSETS, MODEL_GRAPH = 0, 1, 7
OPSET_DOMAIN, OPSET_VERSION = 0, 1
GRAPH_INITIALIZERS, GRAPH_VALUES, GRAPH_NODES, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_SPARSE = 0, 1, 2, 5, 6, 7
NODE_NAME, NODE_DOMAIN, NODE_OPERATOR, NODE_TYPE, NODE_INPUTS, NODE_OUTPUTS, NODE_ATTRIBUTES = (
    0,
    2,
    5,
    6,
    8,
    9,
    10,
)
ATTRIBUTE_NAME, ATTRIBUTE_TYPE, ATTRIBUTE_F, ATTRIBUTE_I, ATTRIBUTE_S, ATTRIBUTE_T, ATTRIBUTE_G = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
)
ATTRIBUTE_FLOATS, ATTRIBUTE_INTS, ATTRIBUTE_STRINGS = 8, 9, 10
TENSOR_NAME, TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_RAW_DATA, TENSOR_EXTERNAL_OFFSET = 0, 2, 3, 4, 6
VALUE_NAME, VALUE_TYPE = 0, 2
TYPE_KIND, TYPE_VALUE = 1, 2
TENSOR_TYPE_ELEMENT, TENSOR_TYPE_SHAPE = 0, 1
SHAPE_DIMS = 0
DIMENSION_VALUE = 0
DIMENSION_VALUE_TYPE, DIMENSION_VALUE_NUMBER, DIMENSION_VALUE_NAME = 0, 1, 2


class DamagedOrtFile(Exception):
    """The file is no .ort file, or contradicts itself, or holds what cannot be had as ONNX."""


class Budget:
    """`Budget` counts what is read. Raises DamagedOrtFile where it is too much for the file's size.

    bytes: of raw data; items: tables, texts and numbers.
    """

    def __init__(self, bytes: int) -> None:
        self.bytes, self.items = bytes, MAX_ITEMS

    def spend(self, items: int, bytes: int = 0) -> None:
        self.items -= items
        self.bytes -= bytes
        if self.items < 0 or self.bytes < 0:
            raise DamagedOrtFile("more is in it than its size allows")


class Table:
    """`Table` is one table of a flatbuffer: its fields by their place in the schema. Absent fields have defaults."""

    def __init__(self, data: memoryview, position: int, budget: Budget) -> None:
        self._data, self._position, self._budget = data, position, budget
        budget.spend(1)
        self._fields = position - self._number("<i", position)
        self._count = (self._number("<H", self._fields) - 4) // 2

    def _number(self, format: str, position: int) -> Any:
        if not 0 <= position <= len(self._data) - struct.calcsize(format):
            raise DamagedOrtFile("an offset outside of the file")
        return struct.unpack_from(format, self._data, position)[0]

    def _place(self, field: int) -> int | None:
        """Return the position of a field's bytes, or None where the field is absent."""
        offset = self._number("<H", self._fields + 4 + 2 * field) if field < self._count else 0
        return self._position + offset if offset else None

    def _target(self, place: int) -> int:
        target: int = place + self._number("<I", place)
        return target

    def number(self, field: int, format: str, default: float = 0) -> Any:
        place = self._place(field)
        return default if place is None else self._number(format, place)

    def text(self, field: int) -> str:
        place = self._place(field)
        return "" if place is None else self._text_at(self._target(place))

    def _text_at(self, position: int) -> str:
        length = self._number("<I", position)
        self._budget.spend(1)
        if length > MAX_TEXT_BYTES or position + 4 + length > len(self._data):
            raise DamagedOrtFile("a text that is too long")
        return str(self._data[position + 4 : position + 4 + length], "utf-8")

    def table(self, field: int) -> "Table | None":
        place = self._place(field)
        return None if place is None else Table(self._data, self._target(place), self._budget)

    def _vector(self, field: int) -> tuple[int, int]:
        """Return the position and the number of a vector's elements."""
        place = self._place(field)
        if place is None:
            return 0, 0
        position = self._target(place)
        return position + 4, self._number("<I", position)

    def array(self, field: int, dtype: str) -> NDArray[Any]:
        """Return a vector of numbers, as a view of the file."""
        position, count = self._vector(field)
        size = count * np.dtype(dtype).itemsize
        if position + size > len(self._data):
            raise DamagedOrtFile("a vector outside of the file")
        if dtype == "<u1":
            self._budget.spend(1, size)
        else:
            self._budget.spend(count)
        return np.frombuffer(self._data[position : position + size], dtype)

    def _elements(self, field: int, read: Callable[[int], Any]) -> Iterator[Any]:
        position, count = self._vector(field)
        self._budget.spend(count)
        for index in range(count):
            yield read(self._target(position + 4 * index))

    def texts(self, field: int) -> list[str]:
        return list(self._elements(field, self._text_at))

    def tables(self, field: int) -> "Iterator[Table]":
        return self._elements(field, lambda position: Table(self._data, position, self._budget))


def is_ort_file(head: bytes) -> bool:
    """Whether a file with these first bytes is in ONNX Runtime's format."""
    return head[IDENTIFIER_OFFSET:].startswith(IDENTIFIER)


def parse_ort_file(content: bytes | memoryview) -> ModelProto:
    """Return the ONNX model. Raises DamagedOrtFile."""
    data = memoryview(content)
    if not is_ort_file(bytes(data[:8])):
        raise DamagedOrtFile("it does not begin as an .ort file")
    try:
        session = Table(data, struct.unpack_from("<I", data)[0], Budget(len(data)))
        model = required(session.table(SESSION_MODEL))
        opsets = [
            helper.make_opsetid(opset.text(OPSET_DOMAIN), opset.number(OPSET_VERSION, "<q"))
            for opset in model.tables(MODEL_OPSETS)
        ]
        return ModelProto(
            ir_version=model.number(MODEL_IR_VERSION, "<q"),
            opset_import=opsets,
            graph=read_graph(required(model.table(MODEL_GRAPH)), MAX_SUBGRAPHS),
        )
    except (ValueError, TypeError, OverflowError) as error:  # texts and numbers that ONNX does not take
        raise DamagedOrtFile(str(error)) from error


def required(table: Table | None) -> Table:
    if table is None:
        raise DamagedOrtFile("a part is missing")
    return table


def read_graph(table: Table, subgraphs: int) -> GraphProto:
    """subgraphs: how many may lie one in another below it."""
    if subgraphs < 0:
        raise DamagedOrtFile("too many subgraphs in one another")
    if any(True for _ in table.tables(GRAPH_SPARSE)):
        raise DamagedOrtFile("it has sparse weights")
    values = {value.name: value for value in map(read_value, table.tables(GRAPH_VALUES))}
    graph = GraphProto(name="graph", initializer=map(read_tensor, table.tables(GRAPH_INITIALIZERS)))
    graph.node.extend(sort_nodes([read_node(node, subgraphs) for node in table.tables(GRAPH_NODES)]))
    stored = {tensor.name for tensor in graph.initializer}
    for names, target in ((GRAPH_INPUTS, graph.input), (GRAPH_OUTPUTS, graph.output)):
        for name in table.texts(names):
            if name not in stored:
                target.append(values.get(name, ValueInfoProto(name=name)))
    return graph


def sort_nodes(nodes: list[NodeProto]) -> list[NodeProto]:
    """Return the nodes, each after those whose results it reads; ONNX wants them so. Raises DamagedOrtFile."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [len({makers[name] for name in names_read(node) if name in makers}) for node in nodes]
    readers: dict[int, set[int]] = {}
    for index, node in enumerate(nodes):
        for name in names_read(node):
            if name in makers:
                readers.setdefault(makers[name], set()).add(index)
    ready = [index for index, count in enumerate(waits) if not count]
    for index in ready:
        for reader in sorted(readers.get(index, ())):
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if len(ready) != len(nodes):
        raise DamagedOrtFile("its nodes wait for one another")
    return [nodes[index] for index in ready]


def names_read(node: NodeProto) -> set[str]:
    """Return the names that a node and its subgraphs read."""
    inner = [n for a in node.attribute if a.type == AttributeProto.GRAPH for n in a.g.node]
    return {*node.input, *(name for n in inner for name in names_read(n))}


def read_node(table: Table, subgraphs: int) -> NodeProto:
    if table.number(NODE_TYPE, "<i") != PRIMITIVE_NODE:
        raise DamagedOrtFile("it was compiled for one kind of device")
    return NodeProto(
        name=table.text(NODE_NAME),
        domain=table.text(NODE_DOMAIN),
        op_type=table.text(NODE_OPERATOR),
        input=table.texts(NODE_INPUTS),
        output=table.texts(NODE_OUTPUTS),
        attribute=[read_attribute(each, subgraphs) for each in table.tables(NODE_ATTRIBUTES)],
    )


def read_attribute(table: Table, subgraphs: int) -> AttributeProto:
    attribute = AttributeProto(name=table.text(ATTRIBUTE_NAME), type=table.number(ATTRIBUTE_TYPE, "<i"))
    if attribute.type == AttributeProto.FLOAT:
        attribute.f = table.number(ATTRIBUTE_F, "<f")
    elif attribute.type == AttributeProto.INT:
        attribute.i = table.number(ATTRIBUTE_I, "<q")
    elif attribute.type == AttributeProto.STRING:
        attribute.s = table.text(ATTRIBUTE_S).encode()
    elif attribute.type == AttributeProto.TENSOR:
        attribute.t.CopyFrom(read_tensor(required(table.table(ATTRIBUTE_T))))
    elif attribute.type == AttributeProto.GRAPH:
        attribute.g.CopyFrom(read_graph(required(table.table(ATTRIBUTE_G)), subgraphs - 1))
    elif attribute.type == AttributeProto.FLOATS:
        attribute.floats.extend(table.array(ATTRIBUTE_FLOATS, "<f4").tolist())
    elif attribute.type == AttributeProto.INTS:
        attribute.ints.extend(table.array(ATTRIBUTE_INTS, "<i8").tolist())
    elif attribute.type == AttributeProto.STRINGS:
        attribute.strings.extend(text.encode() for text in table.texts(ATTRIBUTE_STRINGS))
    else:
        raise DamagedOrtFile("an attribute of an unknown type")
    return attribute


def read_tensor(table: Table) -> TensorProto:
    data_type = table.number(TENSOR_DATA_TYPE, "<i")
    if data_type == TensorProto.STRING or table.number(TENSOR_EXTERNAL_OFFSET, "<q", -1) >= 0:
        raise DamagedOrtFile("a tensor whose values are not numbers in this file")
    dims = table.array(TENSOR_DIMS, "<i8")
    if len(dims) > MAX_DIMENSIONS or (dims < 0).any():
        raise DamagedOrtFile("a tensor of impossible shape")
    raw = table.array(TENSOR_RAW_DATA, "<u1")
    return TensorProto(
        name=table.text(TENSOR_NAME), dims=dims.tolist(), data_type=data_type, raw_data=raw.tobytes()
    )


def read_value(table: Table) -> ValueInfoProto:
    """Read the name, type and shape of a value; the name alone where it is no tensor."""
    value, type = ValueInfoProto(name=table.text(VALUE_NAME)), table.table(VALUE_TYPE)
    if type is None or type.number(TYPE_KIND, "<B") != TENSOR_TYPE:
        return value
    tensor = required(type.table(TYPE_VALUE))
    value.type.tensor_type.elem_type = tensor.number(TENSOR_TYPE_ELEMENT, "<i")
    shape = tensor.table(TENSOR_TYPE_SHAPE)
    if shape is not None:
        value.type.tensor_type.shape.SetInParent()
        for dim in shape.tables(SHAPE_DIMS):
            target, size = value.type.tensor_type.shape.dim.add(), dim.table(DIMENSION_VALUE)
            kind = DIM_PARAM if size is None else size.number(DIMENSION_VALUE_TYPE, "<b")
            if size is not None and kind == DIM_VALUE:
                target.dim_value = size.number(DIMENSION_VALUE_NUMBER, "<q")
            elif size is not None and kind == DIM_PARAM:
                target.dim_param = size.text(DIMENSION_VALUE_NAME)
    return value
