"""EMA: the exponential moving average of a network's weights, which is validated and published."""

import torch
from torch import nn

MAX_DECAY = 0.998  # averages over about 500 steps


def ema_decay(steps: int) -> float:
    """Return the decay for a run of `steps`: it averages over about a tenth of them, at most 500."""
    return max(0.0, min(MAX_DECAY, 1 - 10 / steps))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average towards the network's weights; integers and flags are copied.

    Tensors are paired by name. torch's AveragedModel pairs them by order, which fails for TinyViT: its buffers differ
    between training and evaluation.
    """
    latest = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(latest[name], 1 - decay)
        else:
            value.copy_(latest[name])
