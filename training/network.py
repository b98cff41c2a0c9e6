"""The starter's network: a small convolutional encoder under SAM's own prompt encoder and mask decoder.

The promptable part is a `segment_anything.modeling.Sam`, so everything that reads a SAM (the exporter,
`SamPredictor`, the tests) reads the starter too. Beside it an `AutomaticDecoder` predicts, from the same
embedding, what automatic instance segmentation needs.
"""

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

INPUT_SIZE = 512
STRIDE = 16
DIM = 128
WIDTHS = (32, 64, 128, 192)
BLOCKS = (2, 2, 4, 2)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm; the exporter folds the norm away."""
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
        return self.act(x + self.second(self.act(self.first(x))))


class ConvEncoder(nn.Module):
    """Image [B, 3, S, S] -> embedding [B, DIM, S/16, S/16].

    Four stages at strides 4, 8, 16 and 32. All are brought to stride 16 and summed: the fine stages by
    strided convolutions that see every pixel, so that an outline's place inside a 16-pixel cell is kept.
    """

    img_size = INPUT_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, WIDTHS[0], 4, 2), nn.ReLU(inplace=True), conv_norm(WIDTHS[0], WIDTHS[0], 2, 2)
        )
        stages, before = [], WIDTHS[0]
        for index, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            down = nn.Identity() if index == 0 else conv_norm(before, width, 2, 2)
            stages.append(nn.Sequential(down, *(Block(width) for _ in range(blocks))))
            before = width
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(
            [
                conv_norm(WIDTHS[0], DIM, 4, 4),
                conv_norm(WIDTHS[1], DIM, 2, 2),
                conv_norm(WIDTHS[2], DIM, 1),
                conv_norm(WIDTHS[3], DIM, 1),
            ]
        )
        self.fuse = nn.Sequential(nn.ReLU(inplace=True), Block(DIM), Block(DIM), nn.Conv2d(DIM, DIM, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        s4, s8, s16, s32 = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        up = nn.functional.interpolate(s32, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.fuse(s4 + s8 + s16 + up)


class AutomaticDecoder(nn.Module):
    """Embedding [B, DIM, h, w] -> maps [B, 3, 8h, 8w] in 0..1: foreground, centre distance, boundary
    distance, as Segment Anything for Microscopy defines them (both distances 0 inside, 1 at the edge)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in ((DIM, 96), (96, 48), (48, 24)):
            layers += [
                nn.ConvTranspose2d(before, width, 2, 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if width == 96:  # the blocks of the finer levels cost more than they bring
                layers.append(Block(width))
        self.body = nn.Sequential(*layers, nn.Conv2d(24, 3, 3, padding=1))

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.body(embedding))


def build_sam() -> Sam:
    """The promptable starter with fresh weights, its cross-attentions tied.

    Each cross-attention between tokens and image starts with equal query and key projections: attention
    is then local to the prompt's place from the first step, where independent projections would first
    have to discover what the Fourier position code means.
    """
    grid = INPUT_SIZE // STRIDE
    sam = Sam(
        image_encoder=ConvEncoder(),  # type: ignore[arg-type]  # any module with img_size serves
        prompt_encoder=PromptEncoder(DIM, (grid, grid), (INPUT_SIZE, INPUT_SIZE), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            transformer_dim=DIM,
            transformer=TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=8, mlp_dim=4 * DIM),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=DIM,
        ),
    )
    transformer = sam.mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossings:
        attention.q_proj.weight.data.copy_(attention.k_proj.weight.data)
    return sam


def encode_prompts(sam: Sam, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
    """Sparse tokens [N, T, DIM] of points [N, P, 2] (input pixels), labels [N, P] (1, 0; -1 pads) and
    boxes [N, 4]. Padding points are what SAM itself pads with, so they change nothing it was not built for."""
    encoder = sam.prompt_encoder
    tokens = encoder._embed_points(points, labels, pad=boxes is None)
    return tokens if boxes is None else torch.cat([tokens, encoder._embed_boxes(boxes)], dim=1)


def decode(
    sam: Sam, image: Tensor, position: Tensor, tokens: Tensor, mask_prompt: Tensor | None
) -> tuple[Tensor, Tensor]:
    """SAM's `MaskDecoder.predict_masks`, for prompts that belong to different images.

    image [N, DIM, h, w]: each prompt's own embedding. position [1, DIM, h, w]. mask_prompt [N, 1, 4h, 4w]
    logits; a row of NaN means none. Returns logits [N, 4, 4h, 4w] and scores [N, 4].
    """
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(image)
    if mask_prompt is not None:
        absent = mask_prompt[:, :1, :1, :1].isnan()
        dense = torch.where(absent, dense, encoder._embed_masks(mask_prompt.nan_to_num()))
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.unsqueeze(0).expand(len(tokens), -1, -1), tokens], dim=1)
    n, c, h, w = image.shape
    hidden, source = decoder.transformer(image + dense, position.expand(n, -1, -1, -1), tokens)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(n, c, h, w))
    hyper = torch.stack(
        [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = (hyper @ upscaled.flatten(2)).view(n, -1, 4 * h, 4 * w)
    return logits, decoder.iou_prediction_head(hidden[:, 0])
