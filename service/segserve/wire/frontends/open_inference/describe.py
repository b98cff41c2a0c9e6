"""The server and its models, as the protocol describes them: the JSON, which is the fields of gRPC's messages too."""

from collections.abc import Iterable
from typing import Any

from segserve import __version__
from segserve.models.bundle import Bundle
from segserve.wire.frontends.open_inference.model_tensors import (
    VERSION,
    TensorSpec,
    list_inputs,
    list_outputs,
)

SERVER: dict[str, Any] = {
    "name": "segserve",
    "version": __version__,
    "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
}
PLATFORM = "segserve"


def describe_model(bundle: Bundle) -> dict[str, Any]:
    """Return the metadata of a model."""
    return {
        "name": bundle.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": describe_tensors(list_inputs(bundle.manifest)),
        "outputs": describe_tensors(list_outputs(bundle.manifest)),
    }


def describe_tensors(tensors: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in tensors]


def describe_config(bundle: Bundle) -> dict[str, Any]:
    """Return the configuration of a model, as Triton has it."""

    def entry(tensor: TensorSpec) -> dict[str, Any]:
        name = {"BYTES": "STRING"}.get(tensor.datatype, tensor.datatype)
        return {"name": tensor.name, "data_type": f"TYPE_{name}", "dims": list(tensor.shape)}

    return {
        "name": bundle.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": [{**entry(tensor), "optional": True} for tensor in list_inputs(bundle.manifest)],
        "output": [entry(tensor) for tensor in list_outputs(bundle.manifest)],
    }


def list_repository(names: Iterable[str], readable: Iterable[str]) -> list[dict[str, str]]:
    """Return the repository index. names: of all bundles. readable: of those whose manifest can be read."""
    known = set(readable)
    return [
        {
            "name": name,
            "version": VERSION,
            "state": "READY" if name in known else "UNAVAILABLE",
            "reason": "" if name in known else "The manifest cannot be read.",
        }
        for name in names
    ]
