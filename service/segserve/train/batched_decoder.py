"""SAM's prompt encoder and mask decoder, batched over prompts of different images and of windows of the input."""

from typing import Any

import torch
from torch import Tensor

from segserve.models.networks.starter import upscale_tokens
from segserve.models.promptable_model import FEATURE_NAMES

# The arrays that an encoder returns, by `FEATURE_NAMES`, each with a first axis of images or of prompts.
Features = dict[str, Tensor]

MAX_ABS_LOGIT = 32.0  # of a mask prompt, as the service clamps it


def encode_images(sam: Any, images: Tensor) -> Features:
    """Return the features of images [B, 3, S, S]: the embedding, and fine features where the encoder has them."""
    output = sam.image_encoder(images)
    return dict(zip(FEATURE_NAMES, output if isinstance(output, tuple) else (output,), strict=False))


def select_images(features: Features, index: Tensor) -> Features:
    """Return the features of the images `index` [N], which may repeat."""
    return {name: feature[index] for name, feature in features.items()}


def predict_maps(automatic: Any, features: Features) -> Tensor:
    """Return the maps [B, 3, 8h, 8w] of an automatic decoder, which reads all features or the embedding alone."""
    maps: Tensor = automatic(*(features[name] for name in automatic.INPUTS))
    return maps


def encode_prompts(sam: Any, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
    """Return the sparse tokens [N, T, C] of N prompts.

    points: [N, P, 2], in input pixels.
    labels: [N, P], 1 on the object, 0 not, -1 for padding. SAM itself pads with such points, so they add nothing new.
    boxes: [N, 4], in input pixels.
    """
    encoder = sam.prompt_encoder
    tokens = encoder._embed_points(points, labels, pad=boxes is None)
    return tokens if boxes is None else torch.cat([tokens, encoder._embed_boxes(boxes)], dim=1)


def decode_masks(
    sam: Any, features: Features, position: Tensor, tokens: Tensor, mask_prompt: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return SAM's `MaskDecoder.predict_masks` for prompts of different images: logits [N, 4, 4h, 4w], scores [N, 4].

    features: of each prompt's image; the embedding is [N, C, h, w].
    position: [1 or N, C, h, w], the positional encoding.
    tokens: [N, T, C], of `encode_prompts`.
    mask_prompt: [N, 1, 4h, 4w], logits; a row of NaN means no mask prompt.
    """
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    image, *high_res = (features[name] for name in FEATURE_NAMES if name in features)
    dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(image)
    if mask_prompt is not None:
        absent = mask_prompt[:, :1, :1, :1].isnan()
        dense = torch.where(absent, dense, encoder._embed_masks(mask_prompt.nan_to_num()))
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.unsqueeze(0).expand(len(tokens), -1, -1), tokens], dim=1)
    n, c, h, w = image.shape
    hidden, source = decoder.transformer(image + dense, position.expand(n, -1, -1, -1), tokens)
    upscaled = upscale_tokens(decoder.output_upscaling, source.transpose(1, 2).reshape(n, c, h, w), high_res)
    hyper = torch.stack(
        [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = (hyper @ upscaled.flatten(2)).view(n, -1, 4 * h, 4 * w)
    return logits, decoder.iou_prediction_head(hidden[:, 0])
