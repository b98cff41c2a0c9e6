"""The weights with the best validation score so far: what a run publishes."""

from typing import Any

import torch
from torch import nn

from segserve.train.training_summary import MIN_GAIN


class BestWeights:
    """`BestWeights` keeps a copy, on the CPU, of the weights with the best score. Of equal scores the first counts.

    step, score: of these weights; None before the first offer.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.score: float | None = None
        self._weights: dict[str, Any] = {}

    def offer(self, network: nn.Module, step: int, score: float) -> bool:
        """Keep the weights of a network if their score is better. Return whether it is."""
        if self.score is not None and score <= self.score + MIN_GAIN:
            return False
        self.step, self.score = step, score
        self._weights = {
            name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
            for name, value in network.state_dict().items()
        }
        return True

    def load_into(self, network: nn.Module) -> None:
        """Give a network the best weights."""
        network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves."""
        return {"step": self.step, "score": self.score, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.step, self.score, self._weights = state["step"], state["score"], state["weights"]
