"""Checkpoints: states of networks and optimisers, written whole or not at all."""

import pickle
from pathlib import Path
from typing import Any

import torch

from segserve.errors import BadInput
from segserve.train.run_folder import PARTIAL_SUFFIX


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(PARTIAL_SUFFIX)
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and numbers only. Raises BadInput for a file that is no checkpoint."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise BadInput(
            f"{path} is not a checkpoint.", field="run", remedy="Delete the run's folder and begin again."
        ) from error
    return state
