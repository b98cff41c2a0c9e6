"""A U-Net with the convolutions of VGG11 as encoder (IlliaOvcharenko/lung-segmentation): lungs on chest X-rays.

The names of its tensors are those of the published weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Image edges must be multiples of it.
MULTIPLE = 32


class Block(nn.Module):
    """Two convolutions of 3 x 3, each with a batch norm: [N, C, H, W] -> [N, D, H, W]."""

    def __init__(self, channels: int, middle: int, out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, middle, 3, padding=1), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = nn.Conv2d(middle, out, 3, padding=1), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def convolution(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)


class VggUNet(nn.Module):
    """Grey images [N, 1, H, W], H and W multiples of 32 -> logits [N, K, H, W]."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(1, 3, 1)
        self.conv1, self.conv2 = convolution(3, 64), convolution(64, 128)
        self.conv3, self.conv3s = convolution(128, 256), convolution(256, 256)
        self.conv4, self.conv4s = convolution(256, 512), convolution(512, 512)
        self.conv5, self.conv5s = convolution(512, 512), convolution(512, 512)
        self.center = Block(512, 512, 256)
        self.dec5, self.dec4 = Block(512 + 256, 512, 256), Block(512 + 256, 512, 128)
        self.dec3, self.dec2 = Block(256 + 128, 256, 64), Block(128 + 64, 128, 32)
        self.dec1 = Block(64 + 32, 64, 32)
        self.out = nn.Conv2d(32, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        stages: list[tuple[Any, ...]] = [
            (self.conv1,), (self.conv2,), (self.conv3, self.conv3s), (self.conv4, self.conv4s),
            (self.conv5, self.conv5s),
        ]  # fmt: skip
        x, skips = F.relu(self.init_conv(image)), list[Tensor]()
        for index, convolutions in enumerate(stages):
            x = F.max_pool2d(x, 2) if index else x
            for layer in convolutions:
                x = F.relu(layer(x))
            skips.append(x)
        x = self.center(F.max_pool2d(x, 2))
        for block in (self.dec5, self.dec4, self.dec3, self.dec2, self.dec1):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()], 1))
        logits: Tensor = self.out(x)
        return logits
