"""Open a graph in the runtime that the options name."""

from pathlib import Path

from segserve.models.runtime.graph import Graph
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.openvino_graph import OpenVinoGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device, Runtime


def open_graph(path: Path, options: RuntimeOptions) -> Graph:
    """Return the loaded graph. Raises BrokenModel, MissingDependency."""
    if options.device is Device.CPU and options.runtime is Runtime.OPENVINO:
        return OpenVinoGraph(path, options)
    return OnnxGraph(path, options)
