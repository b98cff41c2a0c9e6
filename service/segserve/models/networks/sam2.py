"""Build SAM 2 and 2.1, the whole network: image encoder, prompt heads, and the memory for video."""

from typing import Any

from sam2.build_sam import build_sam2

# Variant -> configuration file of the library.
SAM2_CONFIGS = {
    f"{version}_{size}": f"configs/sam{version}/sam{version}_hiera_{short}.yaml"
    for version in ("2", "2.1")
    for size, short in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l"))
}


def build_sam2_network(variant: str, *, image_size: int | None = None) -> Any:
    """Return a `sam2.modeling.sam2_base.SAM2Base` with random weights, in eval mode.

    It is set up as `build_sam2_video_predictor` does: a mask made by clicks enters the memory as a binary mask.

    variant: a key of SAM2_CONFIGS.
    image_size: edge of the square that images are resized to, pixels, a multiple of 32; None takes the
        configuration's 1024. No weight depends on it.
    """
    overrides = ["++model.binarize_mask_from_pts_for_mem_enc=true"]
    if image_size is not None:
        overrides.append(f"++model.image_size={image_size}")
    return build_sam2(SAM2_CONFIGS[variant], device="cpu", hydra_overrides_extra=overrides)
