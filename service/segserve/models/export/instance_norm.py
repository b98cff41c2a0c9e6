"""Norms that take their statistics from the image at hand, written out.

ONNX Runtime's InstanceNormalization sums a whole channel in fp32, one value after another, on a CPU: at
1024 x 1024 what comes out of torch_em's UNETR decoder is then 2e-4 off. Averages of row averages are not.
"""

import copy

import torch
from torch import Tensor, nn


class WrittenOutNorm(nn.Module):
    """[N, C, H, W] -> the same, each channel of each image with mean 0 and variance 1, then scaled and shifted
    by the norm's own weights where it has any."""

    def __init__(self, norm: nn.InstanceNorm2d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        centred = x - row_first_mean(x)
        normed = centred * torch.rsqrt(row_first_mean(centred * centred) + self.eps)
        if self.weight is None:
            return normed
        return normed * self.weight.reshape(-1, 1, 1) + self.bias.reshape(-1, 1, 1)


def row_first_mean(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 1, 1], rows first."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True)


def replace_image_norms(network: nn.Module) -> nn.Module:
    """A copy in which every instance norm, and every batch norm in training mode, is written out: of a single
    image both take the same statistics."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            batch = isinstance(child, nn.BatchNorm2d) and child.training
            if batch or isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, WrittenOutNorm(child))
    return network
