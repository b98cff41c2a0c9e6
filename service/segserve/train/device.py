"""Where training runs."""

import torch

from segserve.errors import BadInput


def check_device(device: str) -> str:
    """Raises BadInput for a device that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("There is no CUDA device here.", field="device", remedy="Train with --device cpu.")
    return device
