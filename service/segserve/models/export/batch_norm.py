"""Fold batch norms into the convolutions before them, so that they cost nothing when the network runs."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Makes one module of a convolution and the batch norm after it.
Fuse = Callable[[Any, nn.BatchNorm2d], nn.Module]


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy of the network, in eval mode, in which every batch norm after a convolution is part of it."""

    def fuse(convolution: Any, norm: nn.BatchNorm2d) -> nn.Module:
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        fused: nn.Module = torch.nn.utils.fuse_conv_bn_eval(convolution, norm, transpose=transposed)
        return fused

    return replace_batch_norms(network, fuse)


def fold_batch_norms_when_run(network: nn.Module) -> nn.Module:
    """Return the same as `fold_batch_norms`, but fold each time that the network runs.

    The folding is then a part of an exported graph, which can do it for any checkpoint's weights.
    """
    return replace_batch_norms(network, NormedConvolution)


class NormedConvolution(nn.Module):
    """A convolution with the batch norm after it, folded as it runs: [N, C, H, W] -> [N, D, h, w]."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm = self.convolution, self.norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        if convolution.bias is not None:
            bias = bias + convolution.bias * scale
        return F.conv2d(
            x,
            convolution.weight * scale[:, None, None, None],
            bias,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )


def replace_batch_norms(network: nn.Module, fuse: Fuse) -> nn.Module:
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        children: list[tuple[str, Any]] = list(parent.named_children())
        for (first, convolution), (second, norm) in itertools.pairwise(children):
            is_convolution = isinstance(convolution, (nn.Conv2d, nn.ConvTranspose2d))
            # A subclass may do more than the norm: timm's has an activation.
            if type(norm) is nn.BatchNorm2d and is_convolution:
                setattr(parent, first, fuse(convolution, norm))
                setattr(parent, second, nn.Identity())
    return network
