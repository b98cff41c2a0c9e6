"""State dicts of TransUNet, random, with the published names, and its forward pass as a function of the state dict.

TransUNet is public code rather than a package.
"""

import math
from collections.abc import Mapping

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.nn import functional as F

from tests.models.importers.unet_weights import RandomWeights

RESNET = "transformer.embeddings.hybrid_model"


class TransUnetWeights(RandomWeights):
    """Builds the state dict. filled: random values; otherwise only the shapes are right."""

    def __init__(self, filled: bool) -> None:
        super().__init__()
        self._filled = filled

    def add(self, name: str, *shape: int, scale: float = 0.1, shift: float = 0.0) -> None:
        values = torch.randn(*shape, generator=self._generator) if self._filled else torch.empty(*shape)
        self.state[name] = values * scale + shift if self._filled else values

    def weight(self, name: str, *shape: int) -> None:
        self.add(f"{name}.weight", *shape, scale=math.prod(shape[1:]) ** -0.5)

    def bias(self, name: str, channels: int) -> None:
        self.add(f"{name}.bias", channels)

    def scale(self, name: str, channels: int) -> None:
        self.add(f"{name}.weight", channels, shift=1.0)
        self.bias(name, channels)

    def norm(self, name: str, channels: int) -> None:
        self.scale(name, channels)
        self.add(f"{name}.running_mean", channels)
        self.add(f"{name}.running_var", channels, shift=1.0)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def transunet_weights(
    classes: int,
    *,
    image_px: int = 224,
    width: int = 64,
    units: tuple[int, ...] = (3, 4, 9),
    hidden: int = 768,
    layers: int = 12,
    mlp: int = 3072,
    bridge: int = 512,
    decoder: tuple[int, ...] = (256, 128, 64, 16),
    skips: int = 3,
    filled: bool = True,
) -> dict[str, Tensor]:
    """Return the weights of a network; the defaults are R50-ViT-B_16's."""
    weights = TransUnetWeights(filled)
    weights.weight(f"{RESNET}.root.conv", width, 3, 7, 7)
    weights.scale(f"{RESNET}.root.gn", width)
    channels = width
    for stage, count in enumerate(units, start=1):
        middle, out = width * 2 ** (stage - 1), width * 2 ** (stage + 1)
        for unit in range(1, count + 1):
            prefix = f"{RESNET}.body.block{stage}.unit{unit}"
            for number, shape in enumerate(
                ((middle, channels, 1, 1), (middle, middle, 3, 3), (out, middle, 1, 1)), start=1
            ):
                weights.weight(f"{prefix}.conv{number}", *shape)
                weights.scale(f"{prefix}.gn{number}", shape[0])
            if unit == 1:
                weights.weight(f"{prefix}.downsample", out, channels, 1, 1)
                weights.scale(f"{prefix}.gn_proj", out)
            channels = out
    weights.weight("transformer.embeddings.patch_embeddings", hidden, channels, 1, 1)
    weights.bias("transformer.embeddings.patch_embeddings", hidden)
    weights.add("transformer.embeddings.position_embeddings", 1, (image_px // 16) ** 2, hidden)
    for layer in range(layers):
        prefix = f"transformer.encoder.layer.{layer}"
        for name in ("attention_norm", "ffn_norm"):
            weights.scale(f"{prefix}.{name}", hidden)
        for name, out, inner in (
            *((f"attn.{part}", hidden, hidden) for part in ("query", "key", "value", "out")),
            ("ffn.fc1", mlp, hidden),
            ("ffn.fc2", hidden, mlp),
        ):
            weights.weight(f"{prefix}.{name}", out, inner)
            weights.bias(f"{prefix}.{name}", out)
    weights.scale("transformer.encoder.encoder_norm", hidden)
    weights.weight("decoder.conv_more.0", bridge, hidden, 3, 3)
    weights.norm("decoder.conv_more.1", bridge)
    skip_channels = (*(8 * width, 4 * width, width)[:skips], 0, 0, 0, 0)
    for level, out in enumerate(decoder):
        inner = (bridge, *decoder)[level] + skip_channels[level]
        for part, channels in (("conv1", inner), ("conv2", out)):
            weights.weight(f"decoder.blocks.{level}.{part}.0", out, channels, 3, 3)
            weights.norm(f"decoder.blocks.{level}.{part}.1", out)
    weights.weight("segmentation_head.0", classes, decoder[-1], 3, 3)
    weights.bias("segmentation_head.0", classes)
    return weights.state


def forward_transunet(state: Mapping[str, Tensor], image: Tensor, heads: int, skips: int = 3) -> Tensor:
    """The forward pass of the published network in eval mode."""

    def conv(prefix: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{prefix}.weight"]
        flat = weight.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return F.conv2d(x, flat.view_as(weight), None, stride, weight.shape[-1] // 2)

    def group_norm(prefix: str, x: Tensor, groups: int = 32, eps: float = 1e-6) -> Tensor:
        return F.group_norm(x, groups, state[f"{prefix}.weight"], state[f"{prefix}.bias"], eps)

    def unit(prefix: str, x: Tensor, stride: int) -> Tensor:
        shortcut = x
        if f"{prefix}.downsample.weight" in state:
            shortcut = conv(f"{prefix}.downsample", x, stride)
            shortcut = group_norm(f"{prefix}.gn_proj", shortcut, shortcut.shape[1], 1e-5)
        y = F.relu(group_norm(f"{prefix}.gn1", conv(f"{prefix}.conv1", x)))
        y = F.relu(group_norm(f"{prefix}.gn2", conv(f"{prefix}.conv2", y, stride)))
        return F.relu(shortcut + group_norm(f"{prefix}.gn3", conv(f"{prefix}.conv3", y)))

    def linear(prefix: str, x: Tensor) -> Tensor:
        return x @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]

    def layer_norm(prefix: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{prefix}.weight"], state[f"{prefix}.bias"], 1e-6)

    def normed_conv(prefix: str, x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"{prefix}.0.weight"], padding=1)
        mean, variance = state[f"{prefix}.1.running_mean"], state[f"{prefix}.1.running_var"]
        return F.relu(F.batch_norm(x, mean, variance, state[f"{prefix}.1.weight"], state[f"{prefix}.1.bias"]))

    x = F.relu(group_norm(f"{RESNET}.root.gn", conv(f"{RESNET}.root.conv", image, 2)))
    features = [x]
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=0)
    for stage in (1, 2, 3):
        number = 1
        while f"{RESNET}.body.block{stage}.unit{number}.conv1.weight" in state:
            prefix = f"{RESNET}.body.block{stage}.unit{number}"
            x = unit(prefix, x, 2 if stage > 1 and number == 1 else 1)
            number += 1
        if stage < 3:
            size = image.shape[2] // (4 * stage)
            padded = torch.zeros(*x.shape[:2], size, size)
            padded[:, :, : x.shape[2], : x.shape[3]] = x
            features.append(padded)
    x = F.conv2d(
        x,
        state["transformer.embeddings.patch_embeddings.weight"],
        state["transformer.embeddings.patch_embeddings.bias"],
    )
    tokens = x.flatten(2).transpose(1, 2) + state["transformer.embeddings.position_embeddings"]
    count, length, hidden = tokens.shape
    layer = 0
    while f"transformer.encoder.layer.{layer}.ffn.fc1.weight" in state:
        prefix = f"transformer.encoder.layer.{layer}"
        y = layer_norm(f"{prefix}.attention_norm", tokens)
        query, key, value = (
            linear(f"{prefix}.attn.{name}", y).view(count, length, heads, -1).permute(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        attention = (query @ key.transpose(-1, -2) / math.sqrt(hidden // heads)).softmax(-1)
        y = (attention @ value).permute(0, 2, 1, 3).reshape(count, length, hidden)
        tokens = tokens + linear(f"{prefix}.attn.out", y)
        y = F.gelu(linear(f"{prefix}.ffn.fc1", layer_norm(f"{prefix}.ffn_norm", tokens)))
        tokens = tokens + linear(f"{prefix}.ffn.fc2", y)
        layer += 1
    tokens = layer_norm("transformer.encoder.encoder_norm", tokens)
    grid = math.isqrt(length)
    x = normed_conv("decoder.conv_more", tokens.permute(0, 2, 1).reshape(count, hidden, grid, grid))
    features.reverse()
    for level in range(4):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        if level < skips:
            x = torch.cat([x, features[level]], dim=1)
        x = normed_conv(f"decoder.blocks.{level}.conv2", normed_conv(f"decoder.blocks.{level}.conv1", x))
    return F.conv2d(x, state["segmentation_head.0.weight"], state["segmentation_head.0.bias"], padding=1)
