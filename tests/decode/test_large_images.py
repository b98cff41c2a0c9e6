"""The region of a large image that a prompt is decoded on, and the way into its pixels and back."""

import numpy as np
import pytest

from segserve.decode import large_images
from segserve.decode.prompt_encoding import logits_geometry, mask_to_logits
from segserve.errors import TooLarge
from segserve.masks.upscale import upscale_logits
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.types import Box, Candidate, Crop, Float32, Prompt, Region, Size

SIZE = Size(20_000, 20_000)
TILE = Region(768, 768, 1536, 1536)  # the second of the second row, for a model of 1024


def manifest(kind: ModelKind) -> PromptableManifest:
    resize = "pad" if kind is ModelKind.SAM else "stretch"
    return PromptableManifest(
        name="m",
        kind=kind,
        architecture="",
        files={},
        preprocess=PreprocessEntry(input_size=1024, mean=(0, 0, 0), std=(1, 1, 1), resize=resize),
        dims=Dims(embedding=(256, 64, 64), low=256),
    )


def point_prompt(
    *coordinates: tuple[float, float], labels: tuple[int, ...] | None = None, box: Box | None = None
) -> Prompt:
    return Prompt(
        np.array(coordinates, np.float32).reshape(-1, 2),
        np.array(labels or (1,) * len(coordinates), np.int64),
        box,
    )


def choose_region(prompt: Prompt, logits_region: Region | None = None) -> Region:
    return large_images.choose_region(prompt, logits_region, SIZE, manifest(ModelKind.SAM), "prompts.0")


def test_the_tile_is_the_one_whose_inner_part_holds_the_middle() -> None:
    assert choose_region(point_prompt((1100, 1100))) == TILE
    assert choose_region(point_prompt((1000, 1100), (1100, 1200))) == TILE, "the points' middle, as micro-sam"
    assert choose_region(point_prompt(box=Box(900, 900, 1400, 1500))) == TILE
    assert choose_region(point_prompt((0, 0))) == Region(0, 0, 1536, 1536)
    assert choose_region(point_prompt((20_000, 20_000))) == Region(18_464, 18_464, 1536, 1536)


def test_negative_points_do_not_choose_the_region_and_are_left_out_if_they_lie_outside() -> None:
    prompt = point_prompt((1100, 1100), (9000, 50), (1200, 1100), labels=(1, 0, 0))
    assert choose_region(prompt) == TILE
    inside = large_images.move_to_region(prompt, TILE)
    assert inside.points.tolist() == [[332, 332], [432, 332]]
    assert inside.labels.tolist() == [1, 0]


def test_a_prompt_larger_than_a_tile_gets_a_larger_and_less_sharp_region() -> None:
    assert choose_region(point_prompt(box=Box(300, 900, 2400, 1200))) == Region(0, 0, 3072, 3072)
    assert choose_region(point_prompt(box=Box(900, 900, 4000, 1200))) == Region(0, 0, 6144, 6144)
    with pytest.raises(TooLarge) as refusal:
        choose_region(point_prompt(box=Box(100, 100, 19_000, 200)))
    assert refusal.value.field == "prompts.0"
    assert str(large_images.MAX_REGION_SIDE_PX) in refusal.value.remedy


def test_a_mask_to_refine_chooses_the_region_around_it() -> None:
    mask = np.zeros((4000, 5000), np.bool_)
    mask[1000:1100, 1040:1200] = True
    prompt = Prompt(mask=mask)
    assert large_images.choose_region(prompt, None, Size(4000, 5000), manifest(ModelKind.SAM), "") == TILE
    inside = large_images.move_to_region(prompt, TILE).mask
    assert inside is not None
    assert np.argwhere(inside)[[0, -1]].tolist() == [[232, 272], [331, 431]]


def test_a_refinement_keeps_the_region_of_its_mask_while_that_holds_the_prompt() -> None:
    assert choose_region(point_prompt((800, 800)), TILE) == TILE, "in its halo"
    beyond = choose_region(point_prompt((2400, 1100)), TILE)
    assert large_images.region_contains(beyond, Box(768, 768, 2400, 2304))
    assert large_images.choose_region(Prompt(), TILE, SIZE, manifest(ModelKind.SAM), "") == TILE


def test_a_mask_of_a_region_is_moved_to_the_image() -> None:
    crop = Crop(np.ones((2, 3), np.bool_), 10, 20, TILE.size)
    moved = large_images.move_to_image(Candidate(crop, np.zeros((4, 4), np.float32), 0.5), TILE, SIZE).crop
    assert (moved.x, moved.y, moved.size, moved.pixels.shape) == (778, 788, SIZE, (2, 3))


@pytest.mark.parametrize("kind", [ModelKind.SAM, ModelKind.SAM2])
def test_logits_are_resampled_to_the_same_place_of_the_image(kind: ModelKind) -> None:
    of, source, target = manifest(kind), Region(0, 256, 1280, 768), Region(0, 0, 2560, 2300)
    mask = np.zeros((768, 1280), np.bool_)
    mask[200:500, 300:900] = True
    logits = mask_to_logits(mask, of)
    moved = large_images.move_logits(logits, source, target, of)

    def upscale(values: Float32, region: Region) -> np.ndarray:
        return upscale_logits(values, logits_geometry(of, region.size)) > 0

    expected = np.zeros((2300, 2560), np.bool_)
    expected[256 : 256 + 768, :1280] = upscale(logits, source)
    result = upscale(moved, target)
    assert (result & expected).sum() / (result | expected).sum() > 0.97
    assert large_images.move_logits(logits, source, source, of) is logits


def test_a_mask_id_holds_the_region_of_its_mask() -> None:
    assert large_images.parse_region(f"0123456789ab-{large_images.format_region(TILE)}-ffff") == TILE
    assert large_images.parse_region("0123456789ab-ffff") is None
