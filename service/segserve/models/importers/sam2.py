"""Import SAM 2 and 2.1 in image mode without torch: tiny, small, base_plus, large, and fine-tunes of them.

With --keep-weights, for videos by SAM 2's memory, the library imports them (`sam2_network`): the memory needs it too.
"""

import importlib
from collections.abc import Mapping, Sequence

from segserve.errors import BadInput
from segserve.models.importers.import_by_template import describe, write_from_templates
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.templates.architectures import SAM2_ARCHITECTURES, SAM2_PATCHES

PARTS = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.")
BLOCK = "image_encoder.trunk.blocks.{}.norm1.weight"
# A tensor that 2.1 has and 2.0 has not.
ONLY_IN_2_1 = "no_obj_embed_spatial"
SIZE_BY_WIDTH = {96: "tiny", 112: "base_plus", 144: "large"}
VARIANTS = tuple(f"{version}_{size}" for version in ("2", "2.1") for size in SAM2_ARCHITECTURES)


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    if request.keep_weights:
        importlib.import_module(f"{__package__}.sam2_network").write_bundle(request)
        return
    request.on_stage("reading the checkpoint")
    state = read_checkpoint(request.checkpoint)
    shapes = {name: value.shape for name, value in state.items()}
    variant = check_variant(request.variant) or recognise_variant(shapes)
    architecture = SAM2_ARCHITECTURES[variant.partition("_")[2]]
    manifest = describe(request, architecture).model_copy(update={"architecture": f"hiera_{variant}"})
    write_from_templates(request, state, architecture, f"SAM {variant}", PARTS, manifest)


def check_variant(variant: str | None) -> str | None:
    """Return the variant. Raises BadInput naming the known ones."""
    if variant is not None and variant not in VARIANTS:
        raise BadInput(
            f"SAM 2 has no variant {variant!r}.", field="variant", remedy=f"Known: {', '.join(VARIANTS)}."
        )
    return variant


def recognise_variant(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return the variant, such as "2.1_tiny", by the encoder's width and blocks. Raises BadInput.

    shapes: of the tensors, by name.
    """
    size = SIZE_BY_WIDTH.get(shapes[SAM2_PATCHES][0]) if shapes.get(SAM2_PATCHES) else None
    if size == "tiny" and BLOCK.format(12) in shapes:  # small has tiny's width, and 16 blocks instead of 12
        size = "small"
    if size is None:
        raise BadInput(
            "This is not a checkpoint of SAM 2.",
            field="checkpoint",
            remedy=f"Expected {SAM2_PATCHES!r} of 96, 112 or 144 channels.",
        )
    return f"{'2.1' if ONLY_IN_2_1 in shapes else '2'}_{size}"
