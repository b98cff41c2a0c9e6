"""The exact fast mask decoder: SAM's, rewritten so that a click does only what depends on the click.

SAM and SAM 2 share the two-way transformer, so both are rewritten by the same three steps, none of which
changes the function (Kirillov et al., "Segment Anything", 2023; Ravi et al., "SAM 2", 2024):

1. `ImagePreparation` runs once per image. Layer 0 sees image tokens that no prompt has touched, so its keys and
   values (token to image) and queries (image to token) depend on the image alone.
2. The projections of all P image tokens are reassociated onto the T prompt tokens: ``(q Wq)(x Wk)^T`` is
   ``(q Wq Wk^T) x^T``. The key's bias is constant along the softmax and drops out; the value's bias passes
   through it unchanged because the weights sum to one. Worth it while T < 16; `fold=False` projects as usual.
3. Transposed convolutions with kernel 2 and stride 2 are matrix products over channels-last tokens; only the
   final single-channel masks are permuted. The last attention, the hypernetworks and the masks are computed
   only for the mask tokens asked for.

Shapes: C channels, g x g grid, P = g*g image tokens, H heads of d channels, T tokens, M masks.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLD_BELOW_TOKENS = 16  # where folding and projecting cost the same for 8 heads of 16 channels


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, H*d] -> [H, N, d]. As ints the fixed sizes are constants of the graph, not computed in it."""
    return x.reshape(-1, heads, int(x.shape[1]) // heads).permute(1, 0, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[H, N, d] -> [N, H*d]."""
    return x.permute(1, 0, 2).reshape(-1, int(x.shape[0]) * int(x.shape[2]))


def head_weights(linear: nn.Linear, heads: int) -> Tensor:
    """The weight [H*d, C] of a projection into heads -> [H, d, C]."""
    return linear.weight.reshape(heads, -1, linear.weight.shape[1])


def attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [H, T, d], k [H, d, N], v [H, N, d] -> [T, C]."""
    scale = 1 / math.sqrt(attention.internal_dim // attention.num_heads)
    return attention.out_proj(merge_heads(torch.softmax((q * scale) @ k, dim=-1) @ v))


def project_and_attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The library's own attention, without a batch: query [T, C], key and value [N, C] -> [T, C]."""
    heads = attention.num_heads
    q, k = split_heads(attention.q_proj(query), heads), split_heads(attention.k_proj(key), heads)
    return attend(attention, q, k.transpose(1, 2), split_heads(attention.v_proj(value), heads))


class TokensToImage(nn.Module):
    """Tokens attend to the image: queries [T, C], image `keys` [P, C], `keys_pe` [P, C] -> [T, C]."""

    def __init__(self, attention: Any, fold: bool) -> None:
        super().__init__()
        self.attention, self.heads, self.fold = attention, attention.num_heads, fold
        self.scale = 1 / math.sqrt(attention.internal_dim // self.heads)

    def forward(self, query: Tensor, keys: Tensor, keys_pe: Tensor) -> Tensor:
        a = self.attention
        if not self.fold:
            return project_and_attend(a, query, keys_pe, keys)
        q = split_heads(a.q_proj(query), self.heads) * self.scale
        channels = int(query.shape[1])
        folded = (q @ head_weights(a.k_proj, self.heads)).reshape(-1, channels)
        weights = torch.softmax(folded @ keys_pe.T, dim=-1)
        seen = (weights @ keys).reshape(self.heads, -1, channels)
        values = seen @ head_weights(a.v_proj, self.heads).transpose(1, 2)
        return a.out_proj(merge_heads(values) + a.v_proj.bias)

    def with_prepared(self, query: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(self.attention, split_heads(self.attention.q_proj(query), self.heads), k, v)


def softmax_over_tokens(scores: Tensor) -> Tensor:
    """[H, T, P], over T. The few tokens stand outside, so that every pass runs along the many image tokens."""
    weights = torch.exp(scores - scores.amax(dim=1, keepdim=True))
    return weights / weights.sum(dim=1, keepdim=True)


class ImageToTokens(nn.Module):
    """The image attends to the tokens: image `keys` [P, C], with position `keys_pe` [P, C], tokens `k` and
    `v` [T, C] -> keys [P, C] with what was seen added."""

    def __init__(self, attention: Any, fold: bool) -> None:
        super().__init__()
        self.attention, self.heads, self.fold = attention, attention.num_heads, fold
        self.scale = 1 / math.sqrt(attention.internal_dim // self.heads)

    def forward(self, keys: Tensor, keys_pe: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a = self.attention
        if not self.fold:
            return self.with_prepared(keys, split_heads(a.q_proj(keys_pe), self.heads).transpose(1, 2), k, v)
        key = split_heads(a.k_proj(k), self.heads) * self.scale
        folded = (key @ head_weights(a.q_proj, self.heads)).reshape(-1, int(keys_pe.shape[1]))
        bias = key @ a.q_proj.bias.reshape(self.heads, -1, 1)
        scores = (folded @ keys_pe.T).reshape(self.heads, -1, int(keys_pe.shape[0])) + bias
        return self.spread(keys, softmax_over_tokens(scores), v)

    def with_prepared(self, keys: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [H, d, P], already projected."""
        key = split_heads(self.attention.k_proj(k), self.heads) * self.scale
        weights = softmax_over_tokens(key @ q)
        if self.fold:
            return self.spread(keys, weights, v)
        value = split_heads(self.attention.v_proj(v), self.heads)
        return keys + self.attention.out_proj(merge_heads(weights.transpose(1, 2) @ value))

    def spread(self, keys: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        """weights [H, T, P] over tokens v [T, C], values and output projection folded, added to keys.

        The weights of a head sum to one, so a head's share of the output's bias can ride on its values: the
        addition of bias and of keys is then part of one Gemm.
        """
        a = self.attention
        output = a.out_proj.weight.T.reshape(self.heads, -1, a.out_proj.weight.shape[0])
        folded = split_heads(a.v_proj(v), self.heads) @ output + a.out_proj.bias / self.heads
        return torch.addmm(
            keys, weights.reshape(-1, int(keys.shape[0])).T, folded.reshape(-1, int(folded.shape[2]))
        )


def embed_points(prompt_encoder: Any, coords: Tensor, labels: Tensor) -> Tensor:
    """Sparse tokens [1, N, C] of coords [1, N, 2] in input pixels and labels [1, N] from -1 (padding) to 3."""
    height, width = prompt_encoder.input_image_size
    scaled = (coords + 0.5) / torch.tensor([width, height], dtype=coords.dtype)
    kinds = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
    kind = torch.cat([embedding.weight for embedding in kinds])[labels.long() + 1]
    return prompt_encoder.pe_layer._pe_encoding(scaled) * (labels != -1).unsqueeze(-1) + kind


def embed_mask(prompt_encoder: Any, mask_input: Tensor, has_mask: Tensor) -> Tensor:
    """What is added to the embedding: mask_input [1, 1, 4g, 4g] logits, if has_mask [1] is 1 -> [1, C, g, g]."""
    empty = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return has_mask * prompt_encoder.mask_downscaling(mask_input) + (1 - has_mask) * empty


class ImagePreparation(nn.Module):
    """What the decoder needs of an image, and of a prior mask if there is one.

    embedding [1, C, g, g], mask_input [1, 1, 4g, 4g] low-res logits, has_mask [1] 1 or 0 ->
    keys [P, C], layer 0's k [H, d, P], v [H, P, d] and q [H, d, P].
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
        q = split_heads(to_tokens.q_proj(keys_pe), to_tokens.num_heads).transpose(1, 2)
        return keys, k, v, q


class FastDecoder(nn.Module):
    """A click: prompt and prepared image -> logits and scores.

    point_coords [1, N, 2] in input pixels (0.5 is added inside, as SAM does), point_labels [1, N]: 1 and 0
    points, 2 and 3 a box's corners, -1 padding. channels [M] int64: which of the four mask tokens. Then
    `ImagePreparation`'s outputs and, for SAM 2, high_res_0 [1, C/8, 4g, 4g] and high_res_1 [1, C/4, 2g, 2g].
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
        """The layers of the two-way transformer: tokens [T, C] and image keys [P, C], both updated."""
        queries = tokens
        for index, layer in enumerate(self.layers):
            attend, spread = self.to_image[index], self.to_tokens[index]
            keys_pe = keys + self.position
            if index == 0:
                queries = project_and_attend(layer.self_attn, queries, queries, queries)
            else:
                at = queries + tokens
                queries = queries + project_and_attend(layer.self_attn, at, at, queries)
            queries = layer.norm1(queries)
            at = queries + tokens
            seen = attend.with_prepared(at, k, v) if index == 0 else attend(at, keys, keys_pe)
            queries = layer.norm2(queries + seen)
            queries = layer.norm3(queries + layer.mlp(queries))
            at = queries + tokens
            told = (
                spread.with_prepared(keys, q, at, queries)
                if index == 0
                else spread(keys, keys_pe, at, queries)
            )
            keys = layer.norm4(told)
        return queries, keys

    def upscale(self, keys: Tensor, high_res: tuple[Tensor, ...]) -> Tensor:
        """[P, C] -> [P, 4, 4, C/8]: each token's 4 x 4 low-res pixels, two steps of 2 x 2."""
        first, norm, act, second, act2 = self.decoder.output_upscaling
        x = upscale_twice(keys, first)
        if high_res:
            x = x + split_into_cells(high_res[1], self.grid, 1)
        x = F.layer_norm(x, tuple(norm.weight.shape), norm.weight, norm.bias, norm.eps)
        x = upscale_twice(act(x), second)
        if high_res:
            x = x + split_into_cells(high_res[0], self.grid, 2)
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
        # The last attention: each token looks by itself, so only those that are read afterwards do.
        read = torch.cat([torch.full_like(channels[:1], self.scores_at), channels + (self.scores_at + 1)])
        queries, tokens = queries[read], tokens[read]
        queries = self.final_norm(queries + self.final(queries + tokens, keys, keys + self.position))
        scores = self.decoder.iou_prediction_head(queries[:1])[0]
        return self.masks(self.upscale(keys, high_res), self.hyper(queries[1:], channels)), scores

    def hyper(self, queries: Tensor, channels: Tensor) -> Tensor:
        """Mask tokens [M, C], each through its own network -> [M, C/8]."""
        networks = self.decoder.output_hypernetworks_mlps
        x = queries[:, None]
        for index in range(networks[0].num_layers):
            weight = torch.stack([n.layers[index].weight.T for n in networks])[channels]
            x = x @ weight + torch.stack([n.layers[index].bias for n in networks])[channels][:, None]
            if index + 1 < networks[0].num_layers:
                x = torch.relu(x)
        return x[:, 0]

    def masks(self, pixels: Tensor, hyper: Tensor) -> Tensor:
        """pixels [P, 4, 4, C/8], hyper [M, C/8] -> [M, 4g, 4g].

        A token's 16 pixels are multiplied at once by a block-diagonal matrix [16 C/8, 16 M], whose columns put
        them into rows and columns: a product M wide would leave most of a vector unused.
        """
        g, depth = self.grid, hyper.shape[1]
        # Pixel (i, j) of the two 2 x 2 steps, i = (row, column), lies at row 2 i0 + j0, column 2 i1 + j1.
        place = torch.eye(16).reshape(2, 2, 2, 2, 16).permute(0, 2, 1, 3, 4).reshape(16, 1, 1, 16)
        blocks = (place * hyper.T[None, :, :, None]).reshape(16 * depth, -1)
        masks = pixels.reshape(-1, 16 * depth) @ blocks
        return masks.reshape(g, g, -1, 4, 4).permute(2, 0, 3, 1, 4).reshape(-1, 4 * g, 4 * g)


def upscale_twice(x: Tensor, convolution: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of kernel and stride 2 on channels-last x [..., C] -> [..., 4, D]; the new
    axis counts the 2 x 2 pixels that each input pixel becomes, row first."""
    inputs, outputs = convolution.weight.shape[:2]
    weight = convolution.weight.permute(2, 3, 1, 0).reshape(4 * outputs, inputs)
    # Flat, and with the bias, it is one Gemm: no pass over the pixels is spent on adding.
    flat = F.linear(x.reshape(-1, inputs), weight, convolution.bias.repeat(4))
    return flat.reshape(*x.shape[:-1], 4, outputs)


def split_into_cells(feature: Tensor, grid: int, steps: int) -> Tensor:
    """A feature map [1, D, g * 2**steps, ...] as each token's own pixels: [P, 4, D] or [P, 4, 4, D]."""
    depth = feature.shape[1]
    if steps == 1:
        return feature.reshape(depth, grid, 2, grid, 2).permute(1, 3, 2, 4, 0).reshape(-1, 4, depth)
    split = feature.reshape(depth, grid, 2, 2, grid, 2, 2)
    return split.permute(1, 4, 2, 5, 3, 6, 0).reshape(-1, 4, 4, depth)
