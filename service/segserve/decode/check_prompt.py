"""Validation of prompts against the image and the model, before anything is encoded."""

from collections.abc import Sequence

from segserve.errors import BadInput
from segserve.models.manifest import PromptableManifest, PromptKind
from segserve.models.promptable_model import PromptableModel
from segserve.types import Prompt, Size


def check_prompt(prompt: Prompt, size: Size, model: PromptableModel, field: str) -> None:
    """Check that the prompt lies on an image of this size, and that the model takes its logits.

    Raises BadInput. field: the prompt's name in the request, such as "prompts.0".
    """
    check_prompt_coordinates(prompt, size, field)
    low = model.manifest.dims.low
    if prompt.logits is not None and prompt.logits.shape != (low, low):
        raise BadInput(
            f"The logits are {prompt.logits.shape}.",
            field=f"{field}.logits",
            remedy=f"Model {model.name!r} takes low-res logits of {low} x {low}.",
        )


def hint_missing_boxes(manifest: PromptableManifest, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Return a hint if the model is trained for boxes alone, and one of the prompts is points alone."""
    is_for_points = PromptKind.POINTS in manifest.prompts
    points_alone = [p for p in prompts if p.box is None and p.mask is None and p.logits is None]
    if is_for_points or not points_alone:
        return ()
    return (f"{manifest.name} is trained for boxes, not for points: draw a box around the object.",)


def check_prompt_coordinates(prompt: Prompt, size: Size, field: str) -> None:
    """Check that points, box and mask lie on an image of this size. Raises BadInput; `field` as in `check_prompt`."""
    remedy = f"Coordinates are pixels of the original image, which is {size.width} x {size.height}, origin top left."
    corners = [] if prompt.box is None else [(prompt.box.x0, prompt.box.y0), (prompt.box.x1, prompt.box.y1)]
    for name, points in (("points", prompt.points.tolist()), ("box", corners)):
        for index, (x, y) in enumerate(points):
            if not (0 <= x <= size.width and 0 <= y <= size.height):
                point_field = f"{field}.{name}.{index}" if name == "points" else f"{field}.box"
                raise BadInput(f"({x:g}, {y:g}) lies outside the image.", field=point_field, remedy=remedy)
    if prompt.mask is not None:
        check_mask_size(prompt.mask.shape, size, f"{field}.mask")


def check_mask_size(shape: tuple[int, int], size: Size, field: str) -> None:
    """Check that a binary mask of shape (height, width) has the image's size. Raises BadInput."""
    if shape != (size.height, size.width):
        raise BadInput(
            f"The mask is {shape[0]} x {shape[1]} (height x width).",
            field=f"{field}.size",
            remedy=f"Send a mask of the image's size, {size.height} x {size.width}.",
        )
