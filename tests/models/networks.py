"""The reference libraries' own networks with random weights, small where the code under test allows it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam.mask_decoder import MaskDecoder as Sam2MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder as Sam2PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer as Sam2Transformer
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from segserve.models.importers.promptable_importer import PromptableImporter
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions

IMAGE, PATCH = 256, 16
GRID = IMAGE // PATCH


def sam_decoder(channels: int, grid: int, heads: int, mlp: int) -> tuple[Any, Any]:
    """SAM's prompt encoder and mask decoder; (256, 64, 8, 2048) are the published models'."""
    prompt_encoder = PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(grid * PATCH, grid * PATCH),
        mask_in_chans=16,
    )
    mask_decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=mlp, num_heads=heads),
        transformer_dim=channels,
    )
    return prompt_encoder.eval(), mask_decoder.eval()


def sam2_decoder(channels: int, grid: int, heads: int, mlp: int) -> tuple[Any, Any]:
    """SAM 2.1's, with all that its published configurations switch on."""
    prompt_encoder = Sam2PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(grid * PATCH, grid * PATCH),
        mask_in_chans=16,
    )
    mask_decoder = Sam2MaskDecoder(
        num_multimask_outputs=3,
        transformer=Sam2Transformer(depth=2, embedding_dim=channels, mlp_dim=mlp, num_heads=heads),
        transformer_dim=channels,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        use_multimask_token_for_obj_ptr=True,
    )
    return prompt_encoder.eval(), mask_decoder.eval()


def small_sam(seed: int = 0, width: int = 32) -> Sam:
    """A complete SAM of 256 px, shaped like vit_b."""
    torch.manual_seed(seed)
    encoder = ImageEncoderViT(
        img_size=IMAGE,
        patch_size=PATCH,
        embed_dim=width,
        depth=2,
        num_heads=4,
        out_chans=64,
        use_rel_pos=True,
        window_size=7,
        global_attn_indexes=(1,),
    )
    prompt_encoder, mask_decoder = sam_decoder(64, GRID, 4, 128)
    sam = Sam(encoder, prompt_encoder, mask_decoder)
    # Initialised position tables are zero, and a model that ignores them would pass.
    for name, parameter in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return sam.eval()


class LibraryDecoder(PromptableImporter):
    """The library's decoding of `PromptableImporter`, for a bare pair of prompt encoder and mask decoder."""

    def decoder(self, network: Any) -> tuple[Any, Any]:
        return network

    build = export = encode = NotImplemented


def open_model(bundle: Any) -> PromptableModel:
    return PromptableModel(bundle, RuntimeOptions(threads=2), RuntimeOptions(threads=2))


def noise_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return an image of random blocks, which has edges and flat parts."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
