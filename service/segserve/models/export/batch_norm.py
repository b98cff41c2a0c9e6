"""Fold batch norms into the convolutions before them, so that they cost nothing when the network runs."""

import copy
import itertools
from typing import Any

import torch
from torch import nn


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy of the network, in eval mode, in which every batch norm after a convolution is part of it."""
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        children: list[tuple[str, Any]] = list(parent.named_children())
        for (first, convolution), (second, norm) in itertools.pairwise(children):
            transposed = isinstance(convolution, nn.ConvTranspose2d)
            if isinstance(norm, nn.BatchNorm2d) and (transposed or isinstance(convolution, nn.Conv2d)):
                fused = torch.nn.utils.fuse_conv_bn_eval(convolution, norm, transpose=transposed)
                setattr(parent, first, fused)
                setattr(parent, second, nn.Identity())
    return network
