"""The exact fast mask decoder: SAM's mask decoder, rewritten so that a click computes only what depends on the click.

SAM and SAM 2 share the two-way transformer, so the same steps rewrite both. No step changes the function
(Kirillov et al., "Segment Anything", 2023; Ravi et al., "SAM 2", 2024):

1. `ImagePreparation` runs once per image, and again for each prior mask. No prompt has changed the image tokens before
   layer 0, so layer 0's keys and values (token to image) and queries (image to token) depend on the image alone.
2. The projections of all P image tokens are moved to the T prompt tokens: ``(q Wq)(x Wk)^T`` is
   ``(q Wq Wk^T) x^T``. The key's bias is constant along the softmax and drops out. The value's bias passes
   through the softmax unchanged, because the weights sum to one. This "folding" is faster while T < 16
   (`promptable_model.FOLD_BELOW_TOKENS`); `fold=False` projects as usual.
3. Transposed convolutions with kernel 2 and stride 2 become matrix products over channels-last tokens. Only the
   final single-channel masks are permuted. The last attention, the hypernetworks and the masks are computed
   only for the requested mask tokens.
4. The fine features of SAM 2 and the starter are added in that order of tokens. `FinePreparation` brings them into it
   once per image. With the bias of the convolution that they are added to, they are the third operand of its product.

Shapes: C channels, g x g grid, P = g*g image tokens, H heads of d channels, T tokens, M masks.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, H*d] -> [H, N, d]. As ints, the fixed sizes become constants of the graph."""
    return x.reshape(-1, heads, int(x.shape[1]) // heads).permute(1, 0, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[H, N, d] -> [N, H*d]."""
    return x.permute(1, 0, 2).reshape(-1, int(x.shape[0]) * int(x.shape[2]))


def head_weights(linear: nn.Linear, heads: int) -> Tensor:
    """Return the weight of a projection into heads, [H*d, C], as [H, d, C]."""
    return linear.weight.reshape(heads, -1, linear.weight.shape[1])


def attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend: q [H, T, d], k [H, d, N], v [H, N, d] -> [T, C]."""
    scale = 1 / math.sqrt(attention.internal_dim // attention.num_heads)
    return attention.out_proj(merge_heads(torch.softmax((q * scale) @ k, dim=-1) @ v))


def project_and_attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute the library's own attention, without a batch axis: query [T, C], key and value [N, C] -> [T, C]."""
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
        attended = (weights @ keys).reshape(self.heads, -1, channels)
        values = attended @ head_weights(a.v_proj, self.heads).transpose(1, 2)
        return a.out_proj(merge_heads(values) + a.v_proj.bias)

    def with_prepared(self, query: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """k [H, d, P] and v [H, P, d], already projected."""
        return attend(self.attention, split_heads(self.attention.q_proj(query), self.heads), k, v)


def softmax_over_tokens(scores: Tensor) -> Tensor:
    """Softmax of [H, T, P] over T. The image tokens are the last axis, so every pass runs along the longest axis."""
    weights = torch.exp(scores - scores.amax(dim=1, keepdim=True))
    return weights / weights.sum(dim=1, keepdim=True)


class ImageToTokens(nn.Module):
    """The image attends to the tokens: image `keys` [P, C], with position `keys_pe` [P, C], tokens `k` and
    `v` [T, C] -> keys [P, C] with the attention's result added."""

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
        """Add the weighted tokens to the keys, values and output projection folded into one.

        weights: [H, T, P] over the tokens v [T, C].

        The weights of a head sum to one, so each head's values can carry its share of the output's bias. Adding the
        bias and the keys is then part of one Gemm.
        """
        a = self.attention
        output = a.out_proj.weight.T.reshape(self.heads, -1, a.out_proj.weight.shape[0])
        folded = split_heads(a.v_proj(v), self.heads) @ output + a.out_proj.bias / self.heads
        return torch.addmm(
            keys, weights.reshape(-1, int(keys.shape[0])).T, folded.reshape(-1, int(folded.shape[2]))
        )


def embed_points(prompt_encoder: Any, coords: Tensor, labels: Tensor) -> Tensor:
    """Return sparse tokens [1, N, C]. coords: [1, N, 2] in input pixels. labels: [1, N] from -1 (padding) to 3."""
    height, width = prompt_encoder.input_image_size
    scaled = (coords + 0.5) / torch.tensor([width, height], dtype=coords.dtype)
    kinds = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
    kind = torch.cat([embedding.weight for embedding in kinds])[labels.long() + 1]
    return prompt_encoder.pe_layer._pe_encoding(scaled) * (labels != -1).unsqueeze(-1) + kind


def embed_mask(prompt_encoder: Any, mask_input: Tensor, has_mask: Tensor) -> Tensor:
    """Return what is added to the embedding, [1, C, g, g].

    mask_input: logits [1, 1, 4g, 4g]. has_mask: [1], 1 where there is a mask, otherwise 0.
    """
    empty = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return has_mask * prompt_encoder.mask_downscaling(mask_input) + (1 - has_mask) * empty


def dense_position(prompt_encoder: Any) -> Tensor:
    """Return the positional encoding of every image token, [P, C].

    It is a part of the graph and no stored value, so that a graph without weights can compute it from a checkpoint's.
    """
    position: Tensor = prompt_encoder.get_dense_pe().flatten(2)[0].T
    return position


class ImagePreparation(nn.Module):
    """The part of the decoder that depends only on the image, and on a prior mask if there is one.

    embedding [1, C, g, g], mask_input [1, 1, 4g, 4g] low-res logits, has_mask [1] 1 or 0 ->
    keys [P, C], layer 0's k [H, d, P], v [H, P, d] and q [H, d, P].
    """

    OUTPUTS = ("keys", "k", "v", "q")

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.layer = mask_decoder.transformer.layers[0]

    def forward(self, embedding: Tensor, mask_input: Tensor, has_mask: Tensor) -> tuple[Tensor, ...]:
        dense = embed_mask(self.prompt_encoder, mask_input, has_mask)
        keys = (embedding + dense).flatten(2)[0].T
        keys_pe = keys + dense_position(self.prompt_encoder)
        to_image, to_tokens = self.layer.cross_attn_token_to_image, self.layer.cross_attn_image_to_token
        k = split_heads(to_image.k_proj(keys_pe), to_image.num_heads).transpose(1, 2)
        v = split_heads(to_image.v_proj(keys), to_image.num_heads)
        q = split_heads(to_tokens.q_proj(keys_pe), to_tokens.num_heads).transpose(1, 2)
        return keys, k, v, q


class FinePreparation(nn.Module):
    """The fine features of an image as `FastDecoder` adds them. It has no part in prior masks.

    high_res_0 [1, C/8, 4g, 4g], high_res_1 [1, C/4, 2g, 2g] -> fine_0 [4P, C/2], fine_1 [P, C]: of each of a token's
    four parts, and of each token, the values of its 2 x 2 pixels, the convolution's bias added.
    """

    INPUTS = ("high_res_0", "high_res_1")
    OUTPUTS = ("fine_0", "fine_1")

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        super().__init__()
        self.grid = prompt_encoder.image_embedding_size[0]
        self.upscaling = mask_decoder.output_upscaling

    def forward(self, high_res_0: Tensor, high_res_1: Tensor) -> tuple[Tensor, Tensor]:
        first, _, _, second, _ = self.upscaling
        fine_0 = split_by_token(high_res_0, self.grid, 2) + second.bias
        fine_1 = split_by_token(high_res_1, self.grid, 1) + first.bias
        return fine_0.reshape(-1, 4 * fine_0.shape[-1]), fine_1.reshape(-1, 4 * fine_1.shape[-1])


class FastDecoder(nn.Module):
    """The part of the decoder that runs for each click: prompt and prepared image -> logits and scores.

    point_coords: [1, N, 2] in input pixels; 0.5 is added inside, as SAM does.
    point_labels: [1, N]; 1 and 0 are points, 2 and 3 a box's corners, -1 is padding.
    channels: [M] int64, which of the four mask tokens.
    keys, k, v, q: the outputs of `ImagePreparation`.
    fine: the outputs of `FinePreparation`; none for SAM.

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
        self.grid = prompt_encoder.image_embedding_size[0]
        self.output_tokens = [mask_decoder.iou_token, mask_decoder.mask_tokens]
        self.score_token = 0
        if getattr(mask_decoder, "pred_obj_scores", False):  # SAM 2 puts its object token first
            self.output_tokens.insert(0, mask_decoder.obj_score_token)
            self.score_token = 1

    def transform(
        self, tokens: Tensor, keys: Tensor, position: Tensor, k: Tensor, v: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the layers of the two-way transformer. Returns the updated tokens [T, C] and image keys [P, C].

        position: `dense_position`.
        """
        queries = tokens
        for index, layer in enumerate(self.layers):
            to_image, to_tokens = self.to_image[index], self.to_tokens[index]
            is_first, keys_pe = index == 0, keys + position
            if is_first:
                queries = project_and_attend(layer.self_attn, queries, queries, queries)
            else:
                queries_pe = queries + tokens
                queries = queries + project_and_attend(layer.self_attn, queries_pe, queries_pe, queries)
            queries = layer.norm1(queries)
            queries_pe = queries + tokens
            attended = (
                to_image.with_prepared(queries_pe, k, v) if is_first else to_image(queries_pe, keys, keys_pe)
            )
            queries = layer.norm2(queries + attended)
            queries = layer.norm3(queries + layer.mlp(queries))
            queries_pe = queries + tokens
            spread = (
                to_tokens.with_prepared(keys, q, queries_pe, queries)
                if is_first
                else to_tokens(keys, keys_pe, queries_pe, queries)
            )
            keys = layer.norm4(spread)
        return queries, keys

    def upscale(self, keys: Tensor, fine: tuple[Tensor, ...]) -> Tensor:
        """Upscale image tokens: [P, C] -> [P, 4, 4, C/8], each token's 4 x 4 low-res pixels as two steps of 2 x 2."""
        first, norm, act, second, act2 = self.decoder.output_upscaling
        fine_0, fine_1 = fine or (None, None)
        x = upscale_2x(keys, first, fine_1)
        x = F.layer_norm(x, tuple(norm.weight.shape), norm.weight, norm.bias, norm.eps)
        return act2(upscale_2x(act(x), second, fine_0))

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        channels: Tensor,
        keys: Tensor,
        k: Tensor,
        v: Tensor,
        q: Tensor,
        *fine: Tensor,
    ) -> tuple[Tensor, Tensor]:
        points = embed_points(self.prompt_encoder, point_coords, point_labels)[0]
        tokens = torch.cat([*(embedding.weight for embedding in self.output_tokens), points])
        position = dense_position(self.prompt_encoder)
        queries, keys = self.transform(tokens, keys, position, k, v, q)
        # In the last attention tokens do not affect each other, so it runs only for those that are read afterwards.
        read = torch.cat([torch.full_like(channels[:1], self.score_token), channels + (self.score_token + 1)])
        queries, tokens = queries[read], tokens[read]
        queries = self.final_norm(queries + self.final(queries + tokens, keys, keys + position))
        scores = self.decoder.iou_prediction_head(queries[:1])[0]
        return self.masks(self.upscale(keys, fine), self.hyper(queries[1:], channels)), scores

    def hyper(self, queries: Tensor, channels: Tensor) -> Tensor:
        """Run each mask token through its own hypernetwork: [M, C] -> [M, C/8]."""
        networks = self.decoder.output_hypernetworks_mlps
        x = queries[:, None]
        for index in range(networks[0].num_layers):
            weight = torch.stack([n.layers[index].weight.T for n in networks])[channels]
            x = x @ weight + torch.stack([n.layers[index].bias for n in networks])[channels][:, None]
            if index + 1 < networks[0].num_layers:
                x = torch.relu(x)
        return x[:, 0]

    def masks(self, pixels: Tensor, hyper: Tensor) -> Tensor:
        """Multiply pixels [P, 4, 4, C/8] by hyper [M, C/8] into masks [M, 4g, 4g].

        A block-diagonal matrix [16 C/8, 16 M] multiplies a token's 16 pixels at once, and its columns put them into
        rows and columns. A product M wide would leave most of a CPU's vector unused.
        """
        g, depth = self.grid, hyper.shape[1]
        # Pixel (i, j) of the two 2 x 2 steps, i = (row, column), lies at row 2 i0 + j0, column 2 i1 + j1.
        order = torch.eye(16).reshape(2, 2, 2, 2, 16).permute(0, 2, 1, 3, 4).reshape(16, 1, 1, 16)
        blocks = (order * hyper.T[None, :, :, None]).reshape(16 * depth, -1)
        masks = pixels.reshape(-1, 16 * depth) @ blocks
        return masks.reshape(g, g, -1, 4, 4).permute(2, 0, 3, 1, 4).reshape(-1, 4 * g, 4 * g)


def upscale_2x(x: Tensor, convolution: nn.ConvTranspose2d, added: Tensor | None) -> Tensor:
    """Apply a transposed convolution of kernel and stride 2 to channels-last x: [..., C] -> [..., 4, D].

    The new axis counts the 2 x 2 pixels that each input pixel becomes, row first.
    added: [N, 4 D] for the N pixels of x, in place of the convolution's bias.
    """
    inputs, outputs = convolution.weight.shape[:2]
    weight = convolution.weight.permute(2, 3, 1, 0).reshape(4 * outputs, inputs)
    flat = x.reshape(-1, inputs)
    # Flat, this is one Gemm with what is added, so adding takes no pass of its own over the pixels.
    product = (
        F.linear(flat, weight, convolution.bias.repeat(4))
        if added is None
        else torch.addmm(added, flat, weight.T)
    )
    return product.reshape(*x.shape[:-1], 4, outputs)


def split_by_token(feature: Tensor, grid: int, steps: int) -> Tensor:
    """Split a feature map [1, D, g * 2**steps, ...] into each token's own pixels: [P, 4, D] or [P, 4, 4, D]."""
    depth = feature.shape[1]
    if steps == 1:
        return feature.reshape(depth, grid, 2, grid, 2).permute(1, 3, 2, 4, 0).reshape(-1, 4, depth)
    split = feature.reshape(depth, grid, 2, 2, grid, 2, 2)
    return split.permute(1, 4, 2, 5, 3, 6, 0).reshape(-1, 4, 4, depth)
