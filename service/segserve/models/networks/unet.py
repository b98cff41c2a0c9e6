"""U-Nets (Ronneberger et al., 2015, arXiv 1505.04597) as commonly written in PyTorch.

They have padded convolutions, batch norm, and half the channels a level. Two variants are in wide use. They differ in
the names of their parts, which checkpoints show, and in how they upsample:

    MilesialUNet      inc, down1 to down4, up1 to up4, outc: as milesial/Pytorch-UNet; upsampled by a transposed
                      convolution, or bilinearly with the corners aligned
    FeatureListUNet   downs, bottleneck, ups, final_conv: built from a list `features`; upsampled by a transposed
                      convolution
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def double_conv(channels: int, middle: int, out: int, *, bias: bool) -> nn.Sequential:
    """Return convolution, batch norm and ReLU, twice."""
    return nn.Sequential(
        nn.Conv2d(channels, middle, 3, padding=1, bias=bias),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out, 3, padding=1, bias=bias),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class MilesialDoubleConv(nn.Module):
    def __init__(self, channels: int, middle: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.double_conv = double_conv(channels, middle, out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.double_conv(x)
        return features


class MilesialDown(nn.Module):
    def __init__(self, channels: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), MilesialDoubleConv(channels, out, out, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.maxpool_conv(x)
        return features


class MilesialUp(nn.Module):
    """One step up.

    deep: channels of the level below. skip: channels of the skip connection.

    A transposed convolution halves `deep`. Bilinear upsampling keeps it, so the convolutions narrow in two steps.
    """

    def __init__(self, deep: int, skip: int, out: int, *, bilinear: bool, bias: bool) -> None:
        super().__init__()
        self.up: nn.Module
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = MilesialDoubleConv(deep + skip, (deep + skip) // 2, out, bias=bias)
        else:
            self.up = nn.ConvTranspose2d(deep, deep // 2, 2, stride=2)
            self.conv = MilesialDoubleConv(deep // 2 + skip, out, out, bias=bias)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        features: Tensor = self.conv(torch.cat([skip, self.up(deep)], dim=1))
        return features


class MilesialUNet(nn.Module):
    """The U-Net of milesial/Pytorch-UNet.

    widths: channels of inc and of each level below it. bias: whether the convolutions before batch norms have one.
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int], *, bilinear: bool, bias: bool = False
    ) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        self.inc = MilesialDoubleConv(channels, widths[0], widths[0], bias=bias)
        for level in range(1, self.depth + 1):
            setattr(self, f"down{level}", MilesialDown(widths[level - 1], widths[level], bias=bias))
        deep = widths[-1]
        for step in range(1, self.depth + 1):
            skip = widths[self.depth - step]
            # A bilinear level already ends as narrow as the level above it expects.
            out = max(skip // 2, widths[0]) if bilinear else skip
            setattr(self, f"up{step}", MilesialUp(deep, skip, out, bilinear=bilinear, bias=bias))
            deep = out
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(deep, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """image [N, C, H, W], H and W multiples of 2^depth -> logits [N, K, H, W]."""
        skips = [self.inc(image)]
        for level in range(1, self.depth + 1):
            skips.append(getattr(self, f"down{level}")(skips[-1]))
        features = skips.pop()
        for step in range(1, self.depth + 1):
            features = getattr(self, f"up{step}")(features, skips.pop())
        logits: Tensor = self.outc.conv(features)
        return logits


class FeatureListDoubleConv(nn.Module):
    def __init__(self, channels: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.conv = double_conv(channels, out, out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.conv(x)
        return features


class FeatureListUNet(nn.Module):
    """The U-Net that is built from a list of features.

    features: channels of each level without the bottleneck, which has twice the last.
    bias: whether the convolutions before batch norms have one.
    multiple: the edges of an image must be multiples of it. fixed_px: None, since it takes any of these.
    """

    def __init__(self, channels: int, classes: int, features: Sequence[int], *, bias: bool = False) -> None:
        super().__init__()
        self.multiple, self.fixed_px = 2 ** len(features), None
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for before, after in zip([channels, *features], features, strict=False):
            self.downs.append(FeatureListDoubleConv(before, after, bias=bias))
        self.bottleneck = FeatureListDoubleConv(features[-1], 2 * features[-1], bias=bias)
        for width in reversed(features):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self.ups.append(FeatureListDoubleConv(2 * width, width, bias=bias))
        self.final_conv = nn.Conv2d(features[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """image [N, C, H, W], H and W multiples of `multiple` -> logits [N, K, H, W]."""
        skips, features = [], image
        for down in self.downs:
            skips.append(down(features))
            features = F.max_pool2d(skips[-1], 2)
        features = self.bottleneck(features)
        for up, convolutions in zip(self.ups[::2], self.ups[1::2], strict=True):
            features = convolutions(torch.cat([skips.pop(), up(features)], dim=1))
        logits: Tensor = self.final_conv(features)
        return logits
