"""Write ONNX files from torch modules (torch.onnx.export by tracing)."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 18
# A tensor with fewer values is not worth a Cast node.
MIN_FP16_VALUES = 64


def export_onnx(
    module: nn.Module,
    path: Path,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    *,
    fp16_weights: bool = False,
    unfolded: bool = False,
) -> None:
    """Write `module` as an ONNX file.

    inputs: example tensors by name, in the order of forward's arguments.
    outputs: the names of forward's results.
    dynamic: the axes that vary, by input or output name.
    fp16_weights: store the weights as fp16 and widen them on load. It halves the file, and is exact only if the
        weights were rounded to fp16 before.
    unfolded: keep every weight as it is, and what is computed from weights alone as nodes.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exported = Path(folder) / path.name
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns about every shape it turns into a constant
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                str(exported),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={k: dict(v) for k, v in (dynamic or {}).items() if k in (*inputs, *outputs)},
                opset_version=OPSET,
                dynamo=False,
                do_constant_folding=not unfolded,
                # In eval mode the exporter merges batch norms, whatever do_constant_folding says.
                training=torch.onnx.TrainingMode.PRESERVE if unfolded else torch.onnx.TrainingMode.EVAL,
            )
        if fp16_weights:
            onnx.save(store_weights_as_fp16(onnx.load(str(exported))), str(path))
        elif (
            len(list(Path(folder).iterdir())) > 1
        ):  # over protobuf's 2 GiB, torch writes a file for each tensor
            data = f"{path.name}.data"
            onnx.save(onnx.load(str(exported)), str(path), save_as_external_data=True, location=data)
        else:
            exported.rename(path)


def store_weights_as_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 weights as fp16 with a Cast after each. The runtime folds the Cast away when it loads the graph."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_FP16_VALUES:
            continue
        name = tensor.name
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        )
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = casts + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def round_to_fp16(network: nn.Module) -> None:
    """Round every weight to the nearest fp16 value, in place. Storing it as fp16 then loses nothing more."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not name.startswith("pixel_"):  # the manifest's mean and std stay
            tensor.data = tensor.data.half().float()
