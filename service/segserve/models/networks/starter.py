"""The starter's networks: a small convolutional encoder with SAM's own prompt encoder and mask decoder.

The promptable part is a `segment_anything.modeling.Sam`. An automatic decoder predicts the maps for automatic instance
segmentation (AIS) from what the encoder returns. There are two versions:

    starter-conv  `build_starter_sam`: decoders see the embedding alone, of stride 16. Everything that takes a SAM takes
                  it too (`SamPredictor`, the exporter, the tests)
    starter-fine  `build_fine_starter_sam`: decoders see features of stride 4 and 8 too, as SAM 2's do

All parts of starter-conv are parts of starter-fine, under the same names. The new ones begin with features of zero. So
a starter-fine with the weights of a starter-conv computes the same masks and maps: `load_coarse_weights`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
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
# Channels of the automatic decoder at strides 8, 4 and 2.
AUTOMATIC_WIDTHS = (96, 48, 24)
# Channels of the fine features for the decoders, strides 4 and 8: what SAM's upscaling has at these strides.
FINE_CHANNELS = (EMBEDDING_CHANNELS // 8, EMBEDDING_CHANNELS // 4)


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
        return self.embed(self.compute_stages(x))

    def compute_stages(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the four stages, the finest first."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def embed(self, features: list[Tensor]) -> Tensor:
        """Return the embedding of the stages' outputs."""
        s4, s8, s16, s32 = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        embedding: Tensor = self.fuse(s4 + s8 + s16 + upscale_2x(s32))
        return embedding


def upscale_2x(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class FineEncoder(ConvEncoder):
    """Image [B, 3, S, S] -> embedding [B, DIM, S/16, S/16], high_res_0 [B, DIM/8, S/4, S/4], high_res_1 [B, DIM/4,
    S/8, S/8].

    The embedding says what there is, the fine stages where its outlines are. So the embedding is brought to stride 8
    and then to stride 4, and at each joins the stage of that stride.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle = STAGE_WIDTHS[:2]
        self.from_embedding = nn.Conv2d(EMBEDDING_CHANNELS, middle, 1)
        self.middle_lateral = nn.Conv2d(middle, middle, 1)
        self.middle = nn.Sequential(nn.ReLU(inplace=True), Block(middle))
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.fine_lateral = nn.Conv2d(fine, fine, 1)
        self.fine = nn.Sequential(nn.ReLU(inplace=True), Block(fine))
        self.to_high_res = nn.ModuleList(
            [nn.Conv2d(fine, FINE_CHANNELS[0], 1), nn.Conv2d(middle, FINE_CHANNELS[1], 1)]
        )
        for projection in self.to_high_res:
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stages = self.compute_stages(x)
        embedding = self.embed(stages)
        middle = self.middle(self.middle_lateral(stages[1]) + upscale_2x(self.from_embedding(embedding)))
        fine = self.fine(self.fine_lateral(stages[0]) + upscale_2x(self.from_middle(middle)))
        return embedding, self.to_high_res[0](fine), self.to_high_res[1](middle)


def upscale_tokens(upscaling: nn.Sequential, source: Tensor, high_res: Sequence[Tensor] = ()) -> Tensor:
    """Apply SAM's `output_upscaling` to image tokens [N, C, h, w]: -> [N, C/8, 4h, 4w].

    high_res: high_res_0 [N, C/8, 4h, 4w] and high_res_1 [N, C/4, 2h, 2w] are added, as SAM 2 does. Empty adds nothing.
    """
    first, norm, act, second, act_2 = upscaling
    x = first(source)
    if high_res:
        x = x + high_res[1]
    x = second(act(norm(x)))
    if high_res:
        x = x + high_res[0]
    upscaled: Tensor = act_2(x)
    return upscaled


class FineMaskDecoder(MaskDecoder):
    """SAM's mask decoder that adds fine features in its upscaling, as SAM 2's does."""

    use_high_res_features = True  # SAM 2's name for it

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        repeat_image: bool = True,
        high_res_features: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Return logits [N, 4, 4h, 4w] and scores [N, 4] of N prompts; see `MaskDecoder.predict_masks`.

        repeat_image: there is one image for all prompts, not one for each.
        high_res_features: high_res_0 and high_res_1 of the same images.
        """
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        count = len(sparse_prompt_embeddings)
        tokens = torch.cat([output.unsqueeze(0).expand(count, -1, -1), sparse_prompt_embeddings], dim=1)
        if repeat_image:
            image_embeddings = image_embeddings.repeat_interleave(count, dim=0)
        image = image_embeddings + dense_prompt_embeddings
        hidden, source = self.transformer(image, image_pe.expand_as(image), tokens)
        upscaled = upscale_tokens(
            self.output_upscaling, source.transpose(1, 2).reshape(image.shape), high_res_features
        )
        hyper = torch.stack(
            [mlp(hidden[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (hyper @ upscaled.flatten(2)).reshape(count, -1, *upscaled.shape[2:])
        return logits, self.iou_prediction_head(hidden[:, 0])


class AutomaticDecoder(nn.Module):
    """Embedding [B, dim, h, w] -> maps [B, 3, 8h, 8w] in 0..1: foreground, centre distance, boundary distance.

    Segment Anything for Microscopy defines the maps; both distances are 0 inside and 1 at the edge.

    dim: the embedding's channels; 256 for a SAM.
    """

    INPUTS: tuple[str, ...] = ("embedding",)

    def __init__(self, dim: int = EMBEDDING_CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise((dim, *AUTOMATIC_WIDTHS)):
            layers += [
                nn.ConvTranspose2d(before, width, 2, 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if width == AUTOMATIC_WIDTHS[0]:  # at the finer levels a block costs more than it gains
                layers.append(Block(width))
        self.body = nn.Sequential(*layers, nn.Conv2d(AUTOMATIC_WIDTHS[-1], 3, 3, padding=1))

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.body(embedding))


class FineAutomaticDecoder(AutomaticDecoder):
    """An `AutomaticDecoder` that reads the fine features of a `FineEncoder` too, where its own map has their stride."""

    INPUTS = ("embedding", "high_res_0", "high_res_1")

    def __init__(self) -> None:
        super().__init__(EMBEDDING_CHANNELS)
        middle, fine = AUTOMATIC_WIDTHS[:2]
        # No biases: features of zero add nothing.
        self.fine_lateral = nn.Conv2d(FINE_CHANNELS[0], fine, 1, bias=False)
        self.middle_lateral = nn.Conv2d(FINE_CHANNELS[1], middle, 1, bias=False)
        self.fine = Block(fine)
        nn.init.zeros_(self.fine.second[1].weight)

    def forward(self, embedding: Tensor, high_res_0: Tensor, high_res_1: Tensor) -> Tensor:  # type: ignore[override]
        up, norm, act, block, up_2, norm_2, act_2, *rest = self.body
        x = block(act(norm(up(embedding)) + self.middle_lateral(high_res_1)))
        x = self.fine(act_2(norm_2(up_2(x)) + self.fine_lateral(high_res_0)))
        for layer in rest:
            x = layer(x)
        return torch.sigmoid(x)


def build_starter_sam() -> Any:
    """Return the promptable starter-conv, a `Sam`, with fresh weights and tied cross-attentions."""
    return build_sam(ConvEncoder(), MaskDecoder)


def build_fine_starter_sam() -> Any:
    """Return the promptable starter-fine, with fresh weights and tied cross-attentions."""
    return build_sam(FineEncoder(), FineMaskDecoder)


def build_sam(encoder: nn.Module, decoder: type[MaskDecoder]) -> Any:
    """Return a `Sam` of this encoder and this class of mask decoder.

    Each cross-attention between tokens and image starts with equal query and key projections. Attention is then local
    to the prompt from the first training step. Independent projections would first have to learn the Fourier position
    code.
    """
    grid = INPUT_SIZE // ENCODER_STRIDE
    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(
            EMBEDDING_CHANNELS, (grid, grid), (INPUT_SIZE, INPUT_SIZE), mask_in_chans=16
        ),
        mask_decoder=decoder(
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


def load_coarse_weights(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a part of starter-conv into the same part of starter-fine. What only this has stays."""
    unknown = network.load_state_dict(dict(state), strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"these are no weights of starter-conv: {unknown[:3]}")
