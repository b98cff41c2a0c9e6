"""Read state dicts from untrusted checkpoints: tensors only, never code. Needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.models.importers.torch_file import (
    Module,
    UnsafePickle,
    list_module_tensors,
    read_torch_file,
)

StateDict = dict[str, NDArray[Any]]

# The keys under which training scripts store the weights: torch_em (micro-sam), MedSAM, lightning and others, SAM 2.
WEIGHT_KEYS = ("model_state", "model_state_dict", "state_dict", "model")
# Wrappers around the weights. A dict may hold itself, so there must be a limit.
MAX_NESTING = 8
SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "uint16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_checkpoint(path: Path, modules: frozenset[tuple[str, str]] = frozenset()) -> StateDict:
    """Return the tensors of a checkpoint by name, without wrappers and their prefixes. Raises BadInput.

    modules: see `load_untrusted`.
    """
    if not path.is_file():
        raise BadInput(
            f"There is no file {path}.", field="checkpoint", remedy="Give the path of a checkpoint."
        )
    state = unwrap_state_dict(load_untrusted(path, modules))
    if not state:
        raise BadInput(
            f"{path.name} holds no tensors.",
            field="checkpoint",
            remedy=f"Expected a state dict, or one under {', '.join(map(repr, WEIGHT_KEYS))}.",
        )
    return state


def load_untrusted(path: Path, modules: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """Load the file's content without running code, tensors as arrays. Raises BadInput.

    modules: the classes of modules that may be pickled in it; a module becomes the dict of its tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        content = read_torch_file(path, modules)
        return list_module_tensors(content) if isinstance(content, Module) else content
    except UnsafePickle as error:
        raise BadInput(
            f"{path.name} holds more than tensors, and reading it could run code.",
            field="checkpoint",
            remedy="Save the weights alone where you trust the file: torch.save(model.state_dict(), ...), "
            "or as safetensors.",
        ) from error
    except Exception as error:  # for bytes that are no checkpoint the readers raise many types
        raise BadInput(
            f"{path.name} cannot be read as a checkpoint.",
            field="checkpoint",
            remedy="Expected a PyTorch state dict (.pth, .pt) or safetensors; is the download complete?",
        ) from error


def read_safetensors(path: Path) -> StateDict:
    """Return the tensors of a safetensors file. numpy has no bfloat16, so that becomes float32.

    Raises SafetensorError, KeyError for a type that no checkpoint here has.
    """
    tensors = {}
    for name, tensor in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        array = np.frombuffer(tensor["data"], SAFETENSORS_DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        if tensor["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = array
    return tensors


def unwrap_state_dict(loaded: Any) -> StateDict:
    """Return the innermost dict of tensors, without the prefixes that wrappers put before every key."""
    for _ in range(MAX_NESTING):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[k] for k in WEIGHT_KEYS if isinstance(loaded.get(k), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    return strip_prefix(select_tensors(loaded), "sam.")


def select_tensors(loaded: Any) -> StateDict:
    """Return the tensors of a state dict, without data parallel's prefix; none where it is not a dict."""
    if not isinstance(loaded, Mapping):
        return {}
    state = {str(key): value for key, value in loaded.items() if isinstance(value, np.ndarray)}
    return strip_prefix(state, "module.")


def strip_prefix(state: StateDict, prefix: str) -> StateDict:
    """Return the tensors under `prefix` without it, if there are any: the others belong to the wrapper.

    If there are none, return the state unchanged.
    """
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)} or state
