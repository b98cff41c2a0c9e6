"""TransUNet (Chen et al., 2021, arXiv 2102.04306): a ResNet, a transformer on its last features, and a U-Net's decoder.

The names of the parts are those of the published repository (Beckschen/TransUNet), so its checkpoints fit. The ResNet
is that of R50-ViT-B/16 (Kolesnikov et al., 2020, arXiv 1912.11370: weights standardised, group norms), without its last
stage. The input is a square of one size, since every token has a position of its own.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 16  # pixels of a cell of the ResNet's last features, along an edge; each cell is a token
GROUPS = 32
HEAD_CHANNELS = 64  # of an attention head: of ViT-B and ViT-L
WEIGHT_EPS = 1e-5
NORM_EPS = 1e-6


@dataclass(frozen=True)
class TransUnetShape:
    """The sizes of a network. The defaults are those of R50-ViT-B_16.

    image_px: the edge of the input; a multiple of 16.
    width: channels of the ResNet's root; a multiple of 32. units: bottlenecks of its three stages.
    hidden, layers, mlp: of the transformer. heads: its attention heads.
    bridge: channels between the transformer and the decoder. decoder: channels of the decoder's four levels.
    skips: levels of the decoder that get features of the ResNet, 0 to 3.
    """

    image_px: int = 224
    width: int = 64
    units: tuple[int, ...] = (3, 4, 9)
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    bridge: int = 512
    decoder: tuple[int, ...] = (256, 128, 64, 16)
    skips: int = 3

    @property
    def grid(self) -> int:
        """Tokens along an edge."""
        return self.image_px // STRIDE

    @property
    def skip_channels(self) -> tuple[int, ...]:
        """Channels that each level of the decoder gets from the ResNet."""
        return tuple(
            channels if level < self.skips else 0
            for level, channels in enumerate((8 * self.width, 4 * self.width, self.width, 0))
        )


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 in each output channel (Qiao et al., arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.standardised_weight(), self.bias, self.stride, self.padding)

    def standardised_weight(self) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return (self.weight - mean) / torch.sqrt(variance + WEIGHT_EPS)


def fold_standardised_weights(network: nn.Module) -> nn.Module:
    """Return a copy of the network whose standardised convolutions are plain ones that compute the same."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StandardisedConv2d):
                plain = nn.Conv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,
                    child.stride,
                    child.padding,
                    bias=child.bias is not None,
                )
                plain.weight.data = child.standardised_weight().detach()
                if child.bias is not None:
                    plain.bias.data = child.bias.detach().clone()
                setattr(parent, name, plain.train(child.training))
    return network


def standardised_conv(channels: int, out: int, kernel: int, stride: int = 1) -> StandardisedConv2d:
    return StandardisedConv2d(channels, out, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """A unit of the ResNet: convolutions of 1, 3 and 1, each with a group norm."""

    def __init__(self, channels: int, out: int, middle: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.gn1 = (
            standardised_conv(channels, middle, 1),
            nn.GroupNorm(GROUPS, middle, eps=NORM_EPS),
        )
        self.conv2 = standardised_conv(middle, middle, 3, stride)
        self.gn2 = nn.GroupNorm(GROUPS, middle, eps=NORM_EPS)
        self.conv3, self.gn3 = standardised_conv(middle, out, 1), nn.GroupNorm(GROUPS, out, eps=NORM_EPS)
        self.has_projection = stride != 1 or channels != out
        if self.has_projection:
            self.downsample = standardised_conv(channels, out, 1, stride)
            self.gn_proj = nn.GroupNorm(out, out)  # a group for each channel, as published

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.gn_proj(self.downsample(x)) if self.has_projection else x
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(shortcut + self.gn3(self.conv3(y)))


class HybridResNet(nn.Module):
    """The ResNet: [N, 3, S, S] -> its last features [N, 16w, S/16, S/16], and skips of strides 8, 4 and 2."""

    def __init__(self, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.root = nn.Sequential(
            OrderedDict(
                conv=standardised_conv(3, width, 7, 2),
                gn=nn.GroupNorm(GROUPS, width, eps=NORM_EPS),
                relu=nn.ReLU(),
            )
        )
        stages, channels = OrderedDict[str, nn.Module](), width
        for stage, count in enumerate(units):
            out, middle = width * 4 * 2**stage, width * 2**stage
            unit_by_name = OrderedDict[str, nn.Module]()
            for unit in range(count):
                stride = 2 if unit == 0 and stage > 0 else 1
                unit_by_name[f"unit{unit + 1}"] = Bottleneck(channels, out, middle, stride)
                channels = out
            stages[f"block{stage + 1}"] = nn.Sequential(unit_by_name)
        self.body = nn.Sequential(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        half = x.shape[2] // 2
        skips = [self.root(x)]
        x = F.max_pool2d(skips[0], 3, 2)
        for level, stage in enumerate(list(self.body)[:-1]):
            x = stage(x)
            # The pooling has no padding, so a row and a column are missing at the end.
            missing = half // 2 ** (level + 1) - x.shape[2]
            skips.append(F.pad(x, (0, missing, 0, missing)) if missing else x)
        return self.body[-1](x), skips[::-1]


class Attention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.value, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, hidden = tokens.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(count, length, self.heads, hidden // self.heads).transpose(1, 2)

        attended = F.scaled_dot_product_attention(
            split(self.query(tokens)), split(self.key(tokens)), split(self.value(tokens))
        )
        output: Tensor = self.out(attended.transpose(1, 2).reshape(count, length, hidden))
        return output


class Mlp(nn.Module):
    def __init__(self, hidden: int, middle: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(hidden, middle), nn.Linear(middle, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


class Layer(nn.Module):
    def __init__(self, shape: TransUnetShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=NORM_EPS)
        self.ffn_norm = nn.LayerNorm(shape.hidden, eps=NORM_EPS)
        self.attn, self.ffn = Attention(shape.hidden, shape.heads), Mlp(shape.hidden, shape.mlp)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.attention_norm(tokens))
        output: Tensor = tokens + self.ffn(self.ffn_norm(tokens))
        return output


class Embeddings(nn.Module):
    """The ResNet, and a token with a position for each cell of its last features."""

    def __init__(self, shape: TransUnetShape) -> None:
        super().__init__()
        self.hybrid_model = HybridResNet(shape.width, shape.units)
        self.patch_embeddings = nn.Conv2d(16 * shape.width, shape.hidden, 1)
        self.position_embeddings = nn.Parameter(torch.zeros(1, shape.grid**2, shape.hidden))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features, skips = self.hybrid_model(image)
        tokens = self.patch_embeddings(features).flatten(2).transpose(1, 2)
        return tokens + self.position_embeddings, skips


class Encoder(nn.Module):
    def __init__(self, shape: TransUnetShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.encoder_norm = nn.LayerNorm(shape.hidden, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layer:
            tokens = layer(tokens)
        output: Tensor = self.encoder_norm(tokens)
        return output


def normed_conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class DecoderLevel(nn.Module):
    def __init__(self, channels: int, skip: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = normed_conv(channels + skip, out), normed_conv(out, out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        output: Tensor = self.conv2(self.conv1(x if skip is None else torch.cat([x, skip], dim=1)))
        return output


class Decoder(nn.Module):
    def __init__(self, shape: TransUnetShape) -> None:
        super().__init__()
        self.conv_more = normed_conv(shape.hidden, shape.bridge)
        inputs = (shape.bridge, *shape.decoder[:-1])
        self.blocks = nn.ModuleList(
            DecoderLevel(*channels)
            for channels in zip(inputs, shape.skip_channels, shape.decoder, strict=True)
        )

    def forward(self, features: Tensor, skips: list[Tensor | None]) -> Tensor:
        features = self.conv_more(features)
        for block, skip in zip(self.blocks, skips, strict=True):
            features = block(features, skip)
        return features


class TransUNet(nn.Module):
    """TransUNet: images [N, 3, S, S] -> logits [N, K, S, S], where S is the shape's `image_px`.

    multiple, fixed_px: the edge of every image, S.
    """

    def __init__(self, classes: int, shape: TransUnetShape) -> None:
        super().__init__()
        self.shape = shape
        self.multiple = self.fixed_px = shape.image_px
        self.transformer = nn.Module()
        self.transformer.embeddings, self.transformer.encoder = Embeddings(shape), Encoder(shape)
        self.decoder = Decoder(shape)
        self.segmentation_head = nn.Sequential(nn.Conv2d(shape.decoder[-1], classes, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        tokens, features = self.transformer.embeddings(image)
        tokens = self.transformer.encoder(tokens)
        grid, skips = self.shape.grid, self.shape.skips
        cells = tokens.transpose(1, 2).reshape(-1, self.shape.hidden, grid, grid)
        used: list[Tensor | None] = [*features[:skips], *[None] * (len(self.shape.decoder) - skips)]
        logits: Tensor = self.segmentation_head(self.decoder(cells, used))
        return logits
