"""The U-Net of Ronneberger et al. (MICCAI 2015), as it is commonly written today: padded, with batch norm, and
a list of how many channels each level has."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DoubleConv(nn.Module):
    """Two 3x3 convolutions that keep the size, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (inputs, outputs):
            layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.conv(x)
        return features


class UNet(nn.Module):
    """Images [B, channels, H, W] -> logits [B, classes, H, W]; H and W are multiples of `multiple`.

    features: channels of each level, the finest first; the bottom has twice the last.
    """

    def __init__(
        self, channels: int = 3, classes: int = 1, features: Sequence[int] = (64, 128, 256, 512)
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(features)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for before, width in zip((channels, *features), features, strict=False):
            self.downs.append(DoubleConv(before, width))
        self.bottleneck = DoubleConv(features[-1], 2 * features[-1])
        for width in reversed(features):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, 2, 2))
            self.ups.append(DoubleConv(2 * width, width))
        self.pool = nn.MaxPool2d(2, 2)
        self.final_conv = nn.Conv2d(features[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for index, skip in enumerate(reversed(skips)):
            x = self.ups[2 * index](x)
            x = self.ups[2 * index + 1](torch.cat([skip, x], dim=1))
        logits: Tensor = self.final_conv(x)
        return logits
