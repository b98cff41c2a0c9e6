"""How many parameters a bundle's networks have: the numbers that its graphs hold."""

import math
from pathlib import Path

import onnx

from segserve.models.bundle import Bundle

# Of a promptable model: its other graphs hold the decoder's numbers again, made ready.
NETWORK_FILES = ("encoder.onnx", "decoder.onnx")
FLOAT_TYPES = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


def count_parameters(bundle: Bundle) -> int:
    """Return the number of floats in the bundle's encoder and decoder, or in all its graphs where it has no such two.

    Norms that were folded into the convolutions before them are not counted.
    """
    graphs = [file for file in bundle.manifest.files if file.endswith(".onnx")]
    chosen = NETWORK_FILES if set(NETWORK_FILES) <= set(graphs) else graphs
    return sum(count_floats(bundle.path(file)) for file in chosen)


def count_floats(path: Path) -> int:
    """Return the number of floats in the weights of an ONNX graph."""
    model = onnx.load(str(path), load_external_data=False)
    return sum(math.prod(each.dims) for each in model.graph.initializer if each.data_type in FLOAT_TYPES)
