"""State dicts of the two U-Net variants, random, and their forward passes as functions of the state dict.

Both variants are public code rather than packages.
"""

from collections.abc import Mapping

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.nn import functional as F


def double_conv(state: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    for convolution, norm in ((0, 1), (3, 4)):
        bias = state.get(f"{prefix}.{convolution}.bias")
        x = F.conv2d(x, state[f"{prefix}.{convolution}.weight"], bias, padding=1)
        statistics = (state[f"{prefix}.{norm}.running_{name}"] for name in ("mean", "var"))
        x = F.batch_norm(x, *statistics, state[f"{prefix}.{norm}.weight"], state[f"{prefix}.{norm}.bias"])
        x = F.relu(x)
    return x


def forward_milesial(state: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """The forward pass of milesial/Pytorch-UNet."""
    skips = [double_conv(state, "inc.double_conv", image)]
    for level in range(1, 5):
        prefix = f"down{level}.maxpool_conv.1.double_conv"
        skips.append(double_conv(state, prefix, F.max_pool2d(skips[-1], 2)))
    x = skips.pop()
    for step in range(1, 5):
        if f"up{step}.up.weight" in state:
            x = F.conv_transpose2d(x, state[f"up{step}.up.weight"], state[f"up{step}.up.bias"], stride=2)
        else:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = double_conv(state, f"up{step}.conv.double_conv", torch.cat([skips.pop(), x], dim=1))
    return F.conv2d(x, state["outc.conv.weight"], state["outc.conv.bias"])


def forward_feature_list(state: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """The forward pass of the U-Net that is built from a list `features`."""
    levels = len({key.split(".")[1] for key in state if key.startswith("downs.")})
    skips, x = [], image
    for level in range(levels):
        skips.append(double_conv(state, f"downs.{level}.conv", x))
        x = F.max_pool2d(skips[-1], 2)
    x = double_conv(state, "bottleneck.conv", x)
    for index in range(0, 2 * levels, 2):
        x = F.conv_transpose2d(x, state[f"ups.{index}.weight"], state[f"ups.{index}.bias"], stride=2)
        x = double_conv(state, f"ups.{index + 1}.conv", torch.cat([skips.pop(), x], dim=1))
    return F.conv2d(x, state["final_conv.weight"], state["final_conv.bias"])


class RandomWeights:
    """Builds a random state dict with the published names and shapes."""

    def __init__(self, seed: int = 0) -> None:
        self.state: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def convolution(self, name: str, *shape: int, bias: bool) -> None:
        fan_in = shape[1] * shape[2] * shape[3]
        self.state[f"{name}.weight"] = torch.randn(*shape, generator=self._generator) * (2 / fan_in) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = torch.randn(shape[0], generator=self._generator) * 0.1

    def up(self, name: str, deep: int) -> None:
        self.convolution(name, deep, deep // 2, 2, 2, bias=False)
        self.state[f"{name}.bias"] = torch.randn(deep // 2, generator=self._generator) * 0.1

    def double(self, name: str, channels: int, middle: int, out: int, *, bias: bool) -> None:
        for index, (before, after) in ((0, (channels, middle)), (3, (middle, out))):
            self.convolution(f"{name}.{index}", after, before, 3, 3, bias=bias)
            norm = f"{name}.{index + 1}"
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.state[f"{norm}.{part}"] = torch.rand(after, generator=self._generator) + 0.5
            self.state[f"{norm}.num_batches_tracked"] = torch.tensor(3)


def milesial_weights(
    channels: int, classes: int, *, bilinear: bool, base: int = 64, bias: bool = False
) -> dict[str, Tensor]:
    weights, factor = RandomWeights(), 2 if bilinear else 1
    widths = [base, 2 * base, 4 * base, 8 * base, 16 * base // factor]
    weights.double("inc.double_conv", channels, base, base, bias=bias)
    for level in range(1, 5):
        name = f"down{level}.maxpool_conv.1.double_conv"
        weights.double(name, widths[level - 1], widths[level], widths[level], bias=bias)
    for step, (before, out) in enumerate(((16, 8), (8, 4), (4, 2), (2, 1)), start=1):
        final = base * out // (factor if step < 4 else 1)
        if not bilinear:
            weights.up(f"up{step}.up", before * base)
        middle = before * base // 2 if bilinear else final
        weights.double(f"up{step}.conv.double_conv", before * base, middle, final, bias=bias)
    weights.convolution("outc.conv", classes, base, 1, 1, bias=True)
    return weights.state


def feature_list_weights(channels: int, classes: int, features: list[int]) -> dict[str, Tensor]:
    weights = RandomWeights()
    for level, (before, after) in enumerate(zip([channels, *features], features, strict=False)):
        weights.double(f"downs.{level}.conv", before, after, after, bias=False)
    weights.double("bottleneck.conv", features[-1], 2 * features[-1], 2 * features[-1], bias=False)
    for index, width in enumerate(reversed(features)):
        weights.up(f"ups.{2 * index}", 2 * width)
        weights.double(f"ups.{2 * index + 1}.conv", 2 * width, width, width, bias=False)
    weights.convolution("final_conv", classes, features[0], 1, 1, bias=True)
    return weights.state
