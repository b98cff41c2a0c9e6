"""Build LiteMedSAM's network (bowang-lab/MedSAM, branch LiteMedSAM) from the libraries of SAM and MobileSAM."""

import warnings

from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

with warnings.catch_warnings():
    # It imports timm under deprecated names, and registers models that timm has itself by now.
    warnings.simplefilter("ignore")
    from mobile_sam.modeling.tiny_vit_sam import Conv2d_BN, TinyViT

INPUT_SIZE = 256
GRID = 64
CHANNELS = 256
# MobileSAM's first convolutions reduce the image to a quarter, LiteMedSAM's keep it: the rest sees the same sizes.
MOBILE_SAM_REDUCTION = 4


def build_lite_medsam() -> Sam:
    """Return the network with random weights, under the names of the published checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's meshgrid
        encoder = TinyViT(
            img_size=MOBILE_SAM_REDUCTION * INPUT_SIZE,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
        )
    encoder.patch_embed.seq = nn.Sequential(Conv2d_BN(3, 32), nn.GELU(), Conv2d_BN(32, 64))
    encoder.img_size = INPUT_SIZE
    del encoder.head, encoder.norm_head  # of a classifier
    transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8)
    sam = Sam(
        encoder,
        PromptEncoder(CHANNELS, (GRID, GRID), (INPUT_SIZE, INPUT_SIZE), mask_in_chans=16),
        MaskDecoder(transformer_dim=CHANNELS, transformer=transformer),
    )
    return sam.eval()
