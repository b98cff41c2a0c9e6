"""The device that training runs on."""

import torch

from segserve.errors import BadInput


def check_device(device: str) -> str:
    """Return `device`, "cpu" or "cuda". Raises BadInput where this machine does not have it."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("There is no CUDA device here.", field="device", remedy="Train with --device cpu.")
    return device
