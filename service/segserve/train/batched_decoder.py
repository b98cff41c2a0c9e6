"""SAM's decoder for prompts that belong to different images, and to windows of the model's input."""

from typing import Any

import torch
from torch import Tensor


def encode_prompts(sam: Any, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
    """Sparse tokens [N, T, C] of points [N, P, 2] (input pixels), labels [N, P] (1, 0; -1 pads) and
    boxes [N, 4]. Padding points are what SAM itself pads with, so they change nothing it was not built for."""
    encoder = sam.prompt_encoder
    tokens = encoder._embed_points(points, labels, pad=boxes is None)
    return tokens if boxes is None else torch.cat([tokens, encoder._embed_boxes(boxes)], dim=1)


def decode_masks(
    sam: Any, image: Tensor, position: Tensor, tokens: Tensor, mask_prompt: Tensor | None
) -> tuple[Tensor, Tensor]:
    """SAM's `MaskDecoder.predict_masks`, for prompts that belong to different images.

    image [N, C, h, w]: each prompt's own embedding. position [1, C, h, w]. mask_prompt [N, 1, 4h, 4w]
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
