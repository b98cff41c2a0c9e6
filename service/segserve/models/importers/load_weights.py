"""Load a checkpoint's tensors into a torch network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segserve.models.importers.check_tensors import check_tensors


def build_and_load(
    build: Callable[[], nn.Module], state: Mapping[str, Any], what: str, parts: Iterable[str]
) -> nn.Module:
    """Build a network whose shape the checkpoint told, and load it; see `load_weights`.

    The network is first built without memory and compared: a few false numbers could claim any amount.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    check_tensors({name: tuple(value.shape) for name, value in state.items()}, expected, what, parts)
    return load_weights(build(), state, what, parts)


def load_weights(network: nn.Module, state: Mapping[str, Any], what: str, parts: Iterable[str]) -> nn.Module:
    """Load `state` into `network` and return it, in eval mode. Raises BadInput as `check_tensors` does.

    state: arrays or tensors by name. what: the name of the network, for the message. parts: prefixes of the network's
    own parts.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_tensors({name: tuple(value.shape) for name, value in state.items()}, expected, what, parts)
    network.load_state_dict(as_tensors({name: state[name] for name in expected}))
    return network.eval()


def as_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return arrays as tensors that share their memory."""
    return {name: torch.as_tensor(value) for name, value in state.items()}
