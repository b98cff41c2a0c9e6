"""Checkpoints: files of the states of networks and optimiser, written completely or not at all."""

import pickle
from pathlib import Path
from typing import Any

import torch

from segserve.errors import BadInput
from segserve.train.run_folder import PARTIAL_SUFFIX


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a state, and replace an older file at once. An interruption leaves the older file."""
    partial = path.with_suffix(PARTIAL_SUFFIX)
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state of tensors and numbers; code in the file is not run. Raises BadInput for any other file."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise BadInput(
            f"{path} is not a checkpoint.", field="run", remedy="Delete the run's folder and begin again."
        ) from error
    return state
