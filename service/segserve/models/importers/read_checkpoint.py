"""Read state dicts from untrusted checkpoints: tensors only, never code.

A pickle can run code when it is read. torch.load with weights_only=True refuses everything but tensors.
"""

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segserve.errors import BadInput

StateDict = dict[str, Tensor]

# The keys under which training scripts store the weights: torch_em (micro-sam), MedSAM, lightning and others, SAM 2.
WEIGHT_KEYS = ("model_state", "model_state_dict", "state_dict", "model")
# Wrappers around the weights. A dict may hold itself, so there must be a limit.
MAX_NESTING = 8
# Names of keys in an error message.
MAX_LISTED_KEYS = 3


def read_checkpoint(path: Path) -> StateDict:
    """Return the tensors of a checkpoint by name, without wrappers and their prefixes. Raises BadInput."""
    if not path.is_file():
        raise BadInput(
            f"There is no file {path}.", field="checkpoint", remedy="Give the path of a checkpoint."
        )
    state = unwrap_state_dict(load_untrusted(path))
    if not state:
        raise BadInput(
            f"{path.name} holds no tensors.",
            field="checkpoint",
            remedy=f"Expected a state dict, or one under {', '.join(map(repr, WEIGHT_KEYS))}.",
        )
    return state


def load_untrusted(path: Path) -> Any:
    """Load the file's content without running code. Raises BadInput."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles, which are refused a moment later
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
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
    state = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    return strip_prefix(state, "module.")


def strip_prefix(state: StateDict, prefix: str) -> StateDict:
    """Return the tensors under `prefix` without it, if there are any: the others belong to the wrapper.

    If there are none, return the state unchanged.
    """
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)} or state


def load_weights(network: nn.Module, state: StateDict, what: str, parts: Iterable[str]) -> nn.Module:
    """Load `state` into `network` and return it, in eval mode. Raises BadInput for a missing or misshapen tensor.

    what: the name of the network, for the message.
    parts: prefixes of the network's own parts. An unknown key under them (adapters, LoRA) is refused, because without
        it the model would silently change. Any other unknown key is left out.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    unknown = [k for k in state if k not in expected and k.startswith(tuple(parts))]
    for problem, keys in (("lacks", missing), ("has another shape:", shapes), ("has more than", unknown)):
        if keys:
            more = f" and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
            raise BadInput(
                f"This is not a checkpoint of {what}: it {problem} {', '.join(keys[:MAX_LISTED_KEYS])}{more}.",
                field="checkpoint",
                remedy="Check the kind and the --variant.",
            )
    network.load_state_dict({key: state[key] for key in expected})
    return network.eval()
