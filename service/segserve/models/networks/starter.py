"""The starter's network: a small convolutional encoder with SAM's own prompt encoder and mask decoder.

The promptable part is a `segment_anything.modeling.Sam`, so everything that takes a SAM (the exporter,
`SamPredictor`, the tests) takes the starter too. An `AutomaticDecoder` predicts the maps for automatic instance
segmentation (AIS) from the same embedding.
"""

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

# Edge of the input, pixels.
INPUT_SIZE = 512
# Pixels of the input for each pixel of the embedding.
ENCODER_STRIDE = 16
EMBEDDING_CHANNELS = 128
# Channels and residual blocks of each stage.
STAGE_WIDTHS = (32, 64, 128, 192)
STAGE_BLOCKS = (2, 2, 4, 2)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution and a batch norm; the exporter folds the norm away."""
    padding = (kernel - stride + 1) // 2 if kernel > stride else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_norm(width, width, 3)
        self.second = conv_norm(width, width, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.act(x + self.second(self.act(self.first(x))))
        return refined


class ConvEncoder(nn.Module):
    """Image [B, 3, S, S] -> embedding [B, DIM, S/16, S/16].

    Four stages have strides 4, 8, 16 and 32. All are brought to stride 16 and summed. Strided convolutions that read
    every pixel do this for the fine stages, so the position of an outline inside a 16-pixel cell is kept.
    """

    img_size = INPUT_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, STAGE_WIDTHS[0], 4, 2),
            nn.ReLU(inplace=True),
            conv_norm(STAGE_WIDTHS[0], STAGE_WIDTHS[0], 2, 2),
        )
        stages, before = [], STAGE_WIDTHS[0]
        for index, (width, blocks) in enumerate(zip(STAGE_WIDTHS, STAGE_BLOCKS, strict=True)):
            down = nn.Identity() if index == 0 else conv_norm(before, width, 2, 2)
            stages.append(nn.Sequential(down, *(Block(width) for _ in range(blocks))))
            before = width
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(
            [
                conv_norm(STAGE_WIDTHS[0], EMBEDDING_CHANNELS, 4, 4),
                conv_norm(STAGE_WIDTHS[1], EMBEDDING_CHANNELS, 2, 2),
                conv_norm(STAGE_WIDTHS[2], EMBEDDING_CHANNELS, 1),
                conv_norm(STAGE_WIDTHS[3], EMBEDDING_CHANNELS, 1),
            ]
        )
        self.fuse = nn.Sequential(
            nn.ReLU(inplace=True),
            Block(EMBEDDING_CHANNELS),
            Block(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        s4, s8, s16, s32 = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        up = nn.functional.interpolate(s32, scale_factor=2.0, mode="bilinear", align_corners=False)
        embedding: Tensor = self.fuse(s4 + s8 + s16 + up)
        return embedding


class AutomaticDecoder(nn.Module):
    """Embedding [B, dim, h, w] -> maps [B, 3, 8h, 8w] in 0..1: foreground, centre distance, boundary distance.

    Segment Anything for Microscopy defines the maps; both distances are 0 inside and 1 at the edge.

    dim: the embedding's channels; 256 for a SAM.
    """

    def __init__(self, dim: int = EMBEDDING_CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in ((dim, 96), (96, 48), (48, 24)):
            layers += [
                nn.ConvTranspose2d(before, width, 2, 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if width == 96:  # at the finer levels a block costs more than it gains
                layers.append(Block(width))
        self.body = nn.Sequential(*layers, nn.Conv2d(24, 3, 3, padding=1))

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.body(embedding))


def build_starter_sam() -> Any:
    """Return the promptable starter, a `Sam`, with fresh weights and tied cross-attentions.

    Each cross-attention between tokens and image starts with equal query and key projections. Attention is then local
    to the prompt from the first training step. Independent projections would first have to learn the Fourier position
    code.
    """
    grid = INPUT_SIZE // ENCODER_STRIDE
    sam = Sam(
        image_encoder=ConvEncoder(),
        prompt_encoder=PromptEncoder(
            EMBEDDING_CHANNELS, (grid, grid), (INPUT_SIZE, INPUT_SIZE), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=EMBEDDING_CHANNELS,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=EMBEDDING_CHANNELS, num_heads=8, mlp_dim=4 * EMBEDDING_CHANNELS
            ),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=EMBEDDING_CHANNELS,
        ),
    )
    transformer = sam.mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossings:
        attention.q_proj.weight.data.copy_(attention.k_proj.weight.data)
    return sam
