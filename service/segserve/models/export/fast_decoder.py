"""The exact fast mask decoder: SAM's, rewritten so that a click does only what depends on the click.

SAM and SAM 2 share the two-way transformer, so both are rewritten by the same three steps, none of which
changes the function (Kirillov et al., "Segment Anything", 2023; Ravi et al., "SAM 2", 2024):

1. `Prepare` runs once per image. Layer 0 sees image tokens that no prompt has touched, so its keys and
   values (token to image) and queries (image to token) depend on the image alone.
2. The projections of all P image tokens are reassociated onto the T prompt tokens: ``(q Wq)(x Wk)^T`` is
   ``(q Wq Wk^T) x^T``. The key's bias is constant along the softmax and drops out; the value's bias passes
   through it unchanged because the weights sum to one. Worth it while T < 16; `fold=False` projects as usual.
3. Transposed convolutions with kernel 2 and stride 2 are matrix products over channels-last tokens; only the
   final single-channel masks are permuted, and only the masks asked for are computed.

Shapes: C channels, g x g grid, P = g*g image tokens, H heads of d channels, T tokens, M masks.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLD_BELOW_TOKENS = 16  # where folding and projecting cost the same for 8 heads of 16 channels


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, H*d] -> [H, N, d]."""
    return x.reshape(x.shape[0], heads, -1).permute(1, 0, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[H, N, d] -> [N, H*d]."""
    return x.permute(1, 0, 2).reshape(x.shape[1], -1)


def head_weights(linear: nn.Linear, heads: int) -> Tensor:
    """The weight [H*d, C] of a projection into heads -> [H, d, C]."""
    return linear.weight.reshape(heads, -1, linear.weight.shape[1])


class TokensToImage(nn.Module):
    """Tokens attend to the image: queries [T, C], image `keys` [P, C], `keys_pe` [P, C] -> [T, C]."""

    def __init__(self, attention: Any, fold: bool) -> None:
        super().__init__()
        self.attention, self.heads, self.fold = attention, attention.num_heads, fold
        self.scale = 1 / math.sqrt(attention.internal_dim // self.heads)

    def forward(self, query: Tensor, keys: Tensor, keys_pe: Tensor) -> Tensor:
        a = self.attention
        q = split_heads(a.q_proj(query), self.heads) * self.scale
        if not self.fold:
            k, v = split_heads(a.k_proj(keys_pe), self.heads), split_heads(a.v_proj(keys), self.heads)
            return self.attend(q, k.transpose(1, 2), v)
        channels = query.shape[1]
        folded = (q @ head_weights(a.k_proj, self.heads)).reshape(-1, channels)
        weights = torch.softmax(folded @ keys_pe.T, dim=-1)
        seen = (weights @ keys).reshape(self.heads, -1, channels)
        values = seen @ head_weights(a.v_proj, self.heads).transpose(1, 2)
        return a.out_proj(merge_heads(values) + a.v_proj.bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scaled q [H, T, d], k [H, d, P], v [H, P, d] -> [T, C]."""
        return self.attention.out_proj(merge_heads(torch.softmax(q @ k, dim=-1) @ v))

    def with_prepared(self, query: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attend(split_heads(self.attention.q_proj(query), self.heads) * self.scale, k, v)


class ImageToTokens(nn.Module):
    """The image attends to the tokens: image `keys_pe` [P, C], tokens `k` and `v` [T, C] -> [P, C]."""

    def __init__(self, attention: Any, fold: bool) -> None:
        super().__init__()
        self.attention, self.heads, self.fold = attention, attention.num_heads, fold
        self.scale = 1 / math.sqrt(attention.internal_dim // self.heads)

    def forward(self, keys_pe: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = self.attention
        if not self.fold:
            return self.with_prepared(split_heads(a.q_proj(keys_pe), self.heads), k, v)
        key = split_heads(a.k_proj(k), self.heads) * self.scale
        folded = (key @ head_weights(a.q_proj, self.heads)).reshape(-1, keys_pe.shape[1])
        bias = key @ a.q_proj.bias.reshape(self.heads, -1, 1)
        scores = keys_pe @ folded.T + bias.reshape(1, -1)
        weights = torch.softmax(scores.reshape(-1, self.heads, k.shape[0]), dim=-1)
        return self.spread(weights.reshape(keys_pe.shape[0], -1), v)

    def spread(self, weights: Tensor, v: Tensor) -> Tensor:
        """weights [P, H*T] over tokens v [T, C], values and output projection folded -> [P, C]."""
        a = self.attention
        output = a.out_proj.weight.T.reshape(self.heads, -1, a.out_proj.weight.shape[0])
        folded = split_heads(a.v_proj(v), self.heads) @ output
        return weights @ folded.reshape(-1, folded.shape[2]) + a.out_proj.bias

    def with_prepared(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [H, P, d], already projected."""
        key = split_heads(self.attention.k_proj(k), self.heads) * self.scale
        weights = torch.softmax(q @ key.transpose(1, 2), dim=-1)
        if self.fold:
            return self.spread(merge_heads(weights), v)
        value = split_heads(self.attention.v_proj(v), self.heads)
        return self.attention.out_proj(merge_heads(weights @ value))


def embed_points(prompt_encoder: Any, coords: Tensor, labels: Tensor) -> Tensor:
    """Sparse tokens [1, N, C] of coords [1, N, 2] in input pixels and labels [1, N] from -1 (padding) to 3."""
    height, width = prompt_encoder.input_image_size
    scaled = (coords + 0.5) / torch.tensor([width, height], dtype=coords.dtype)
    label = labels.unsqueeze(-1)
    tokens = prompt_encoder.pe_layer._pe_encoding(scaled) * (label != -1)
    tokens = tokens + prompt_encoder.not_a_point_embed.weight * (label == -1)
    for index, embedding in enumerate(prompt_encoder.point_embeddings):
        tokens = tokens + embedding.weight * (label == index)
    return tokens


def embed_mask(prompt_encoder: Any, mask_input: Tensor, has_mask: Tensor) -> Tensor:
    """What is added to the embedding: mask_input [1, 1, 4g, 4g] logits, if has_mask [1] is 1 -> [1, C, g, g]."""
    empty = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return has_mask * prompt_encoder.mask_downscaling(mask_input) + (1 - has_mask) * empty


class Prepare(nn.Module):
    """What the decoder needs of an image, and of a prior mask if there is one.

    embedding [1, C, g, g], mask_input [1, 1, 4g, 4g] low-res logits, has_mask [1] 1 or 0 ->
    keys [P, C], layer 0's k [H, d, P], v [H, P, d] and q [H, P, d].
    """

    OUTPUTS = ("keys", "k", "v", "q")

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.layer = mask_decoder.transformer.layers[0]
        self.register_buffer("position", prompt_encoder.get_dense_pe().detach().flatten(2)[0].T.contiguous())

    def forward(self, embedding: Tensor, mask_input: Tensor, has_mask: Tensor) -> tuple[Tensor, ...]:
        dense = embed_mask(self.prompt_encoder, mask_input, has_mask)
        keys = (embedding + dense).flatten(2)[0].T
        keys_pe = keys + self.position
        to_image, to_tokens = self.layer.cross_attn_token_to_image, self.layer.cross_attn_image_to_token
        k = split_heads(to_image.k_proj(keys_pe), to_image.num_heads).transpose(1, 2)
        v = split_heads(to_image.v_proj(keys), to_image.num_heads)
        q = split_heads(to_tokens.q_proj(keys_pe), to_tokens.num_heads)
        return keys, k, v, q


class FastDecoder(nn.Module):
    """A click: prompt and prepared image -> logits and scores.

    point_coords [1, N, 2] in input pixels (0.5 is added inside, as SAM does), point_labels [1, N]: 1 and 0
    points, 2 and 3 a box's corners, -1 padding. channels [M] int64: which of the four mask tokens. Then
    `Prepare`'s outputs and, for SAM 2, high_res_0 [1, C/8, 4g, 4g] and high_res_1 [1, C/4, 2g, 2g].
    -> low_res [M, 4g, 4g], scores [4] of all mask tokens.
    """

    def __init__(self, prompt_encoder: Any, mask_decoder: Any, fold: bool) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder = prompt_encoder, mask_decoder
        transformer = mask_decoder.transformer
        self.layers = transformer.layers
        self.to_image = nn.ModuleList(TokensToImage(x.cross_attn_token_to_image, fold) for x in self.layers)
        self.to_tokens = nn.ModuleList(ImageToTokens(x.cross_attn_image_to_token, fold) for x in self.layers)
        self.final, self.final_norm = (
            TokensToImage(transformer.final_attn_token_to_image, fold),
            transformer.norm_final_attn,
        )
        self.register_buffer("position", prompt_encoder.get_dense_pe().detach().flatten(2)[0].T.contiguous())
        self.grid = prompt_encoder.image_embedding_size[0]
        output = [mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight]
        self.scores_at = 0
        if getattr(mask_decoder, "pred_obj_scores", False):  # SAM 2 puts its object token first
            output.insert(0, mask_decoder.obj_score_token.weight)
            self.scores_at = 1
        self.register_buffer("output_tokens", torch.cat(output).detach())

    def transform(
        self, tokens: Tensor, keys: Tensor, k: Tensor, v: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two-way transformer: tokens [T, C] and image keys [P, C], both updated."""
        queries = tokens
        for index, layer in enumerate(self.layers):
            attend, spread = self.to_image[index], self.to_tokens[index]
            keys_pe = keys + self.position
            if index == 0:
                queries = layer.self_attn(q=queries[None], k=queries[None], v=queries[None])[0]
            else:
                at = (queries + tokens)[None]
                queries = queries + layer.self_attn(q=at, k=at, v=queries[None])[0]
            queries = layer.norm1(queries)
            at = queries + tokens
            seen = attend.with_prepared(at, k, v) if index == 0 else attend(at, keys, keys_pe)
            queries = layer.norm2(queries + seen)
            queries = layer.norm3(queries + layer.mlp(queries))
            at = queries + tokens
            told = spread.with_prepared(q, at, queries) if index == 0 else spread(keys_pe, at, queries)
            keys = layer.norm4(keys + told)
        queries = queries + self.final(queries + tokens, keys, keys + self.position)
        return self.final_norm(queries), keys

    def upscale(self, keys: Tensor, high_res: tuple[Tensor, ...]) -> Tensor:
        """[P, C] -> [P, 4, 4, C/8]: each token's 4 x 4 low-res pixels, two steps of 2 x 2."""
        first, norm, act, second, act2 = self.decoder.output_upscaling
        x = double(keys, first)
        if high_res:
            x = x + cells(high_res[1], self.grid, 1)
        x = F.layer_norm(x, tuple(norm.weight.shape), norm.weight, norm.bias, norm.eps)
        x = double(act(x), second)
        if high_res:
            x = x + cells(high_res[0], self.grid, 2)
        return act2(x)

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        channels: Tensor,
        keys: Tensor,
        k: Tensor,
        v: Tensor,
        q: Tensor,
        *high_res: Tensor,
    ) -> tuple[Tensor, Tensor]:
        points = embed_points(self.prompt_encoder, point_coords, point_labels)[0]
        tokens = torch.cat([self.output_tokens, points])
        queries, keys = self.transform(tokens, keys, k, v, q)
        mlps = self.decoder.output_hypernetworks_mlps
        first = self.scores_at + 1
        hyper = torch.cat([mlp(queries[first + i : first + i + 1]) for i, mlp in enumerate(mlps)])
        pixels = self.upscale(keys, high_res)
        masks = pixels @ torch.index_select(hyper, 0, channels).T
        g = self.grid
        # [g, g, 2, 2, 2, 2, M]: token row and column, then twice (row, column) of a 2 x 2 step.
        masks = masks.reshape(g, g, 2, 2, 2, 2, -1).permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * g, 4 * g)
        scores = self.decoder.iou_prediction_head(queries[self.scores_at : self.scores_at + 1])[0]
        return masks, scores


def double(x: Tensor, convolution: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of kernel and stride 2 on channels-last x [..., C] -> [..., 4, D]; the new
    axis counts the 2 x 2 pixels that each input pixel becomes, row first."""
    inputs, outputs = convolution.weight.shape[:2]
    weight = convolution.weight.permute(2, 3, 1, 0).reshape(4 * outputs, inputs)
    # Flat, and with the bias, it is one Gemm: no pass over the pixels is spent on adding.
    flat = F.linear(x.reshape(-1, inputs), weight, convolution.bias.repeat(4))
    return flat.reshape(*x.shape[:-1], 4, outputs)


def cells(feature: Tensor, grid: int, steps: int) -> Tensor:
    """A feature map [1, D, g * 2**steps, ...] as each token's own pixels: [P, 4, D] or [P, 4, 4, D]."""
    depth = feature.shape[1]
    if steps == 1:
        return feature.reshape(depth, grid, 2, grid, 2).permute(1, 3, 2, 4, 0).reshape(-1, 4, depth)
    split = feature.reshape(depth, grid, 2, 2, grid, 2, 2)
    return split.permute(1, 4, 2, 5, 3, 6, 0).reshape(-1, 4, 4, depth)
