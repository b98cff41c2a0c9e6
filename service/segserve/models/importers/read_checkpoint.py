"""Reading untrusted checkpoints: tensors only, never code."""

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

# Where training scripts keep the weights: torch_em (micro-sam), MedSAM, lightning and others, SAM 2.
MAX_NESTING = 8  # wrappers around weights
WEIGHTS_UNDER = ("model_state", "model_state_dict", "state_dict", "model")
MAX_LISTED_KEYS = 3  # names of keys in a message


def read_checkpoint(path: Path) -> StateDict:
    """The tensors of a checkpoint by name, wrappers and their prefixes taken off. Raises BadInput."""
    if not path.is_file():
        raise BadInput(
            f"There is no file {path}.", field="checkpoint", remedy="Give the path of a checkpoint."
        )
    state = unwrap_state_dict(load_untrusted(path))
    if not state:
        raise BadInput(
            f"{path.name} holds no tensors.",
            field="checkpoint",
            remedy=f"Expected a state dict, or one under {', '.join(map(repr, WEIGHTS_UNDER))}.",
        )
    return state


def load_untrusted(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused a moment later
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path.name} holds more than tensors, and reading it could run code.",
            field="checkpoint",
            remedy="Save the weights alone where you trust the file: torch.save(model.state_dict(), ...), "
            "or as safetensors.",
        ) from error
    except Exception as error:  # bytes that are no checkpoint make the readers fail in any way
        raise BadInput(
            f"{path.name} cannot be read as a checkpoint.",
            field="checkpoint",
            remedy="Expected a PyTorch state dict (.pth, .pt) or safetensors; is the download complete?",
        ) from error


def unwrap_state_dict(loaded: Any) -> StateDict:
    """The innermost dict of tensors, without the prefixes that wrappers put before every key."""
    for _ in range(MAX_NESTING):  # a dict may hold itself
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[k] for k in WEIGHTS_UNDER if isinstance(loaded.get(k), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    return strip_prefix(select_tensors(loaded), "sam.")


def select_tensors(loaded: Any) -> StateDict:
    """Those of a state dict, without data parallel's prefix; none where it is no dict."""
    if not isinstance(loaded, Mapping):
        return {}
    state = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    return strip_prefix(state, "module.")


def strip_prefix(state: StateDict, prefix: str) -> StateDict:
    """The keys under `prefix`, if there are any: what is beside them belongs to the wrapper."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)} or state


def load_weights(network: nn.Module, state: StateDict, what: str, own: Iterable[str]) -> nn.Module:
    """`state` loaded into `network`, in eval mode. Raises BadInput for what is missing or of another shape.

    own: prefixes of the network's own parts. A key under them that the network does not have (adapters, LoRA)
    would silently change the model if it were left out, so it is refused; any other is left out.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    unknown = [k for k in state if k not in expected and k.startswith(tuple(own))]
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
