"""Folders of images and masks: what can be trained on is read, anything else is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import BadInput
from segserve.train.dataset_folder import digest_images, read_folders, split_validation
from tests.train.drawn import discs, folders

MAX_PIXELS = 1_000_000


def read(root: Path) -> list[str]:
    return [each.name for each in read_folders(root / "images", root / "masks", MAX_PIXELS)]


def test_images_and_masks_are_paired_by_name(tmp_path: Path) -> None:
    images, masks = folders(tmp_path, 2)
    tifffile.imwrite(masks / "third.tif", discs(7).mask.astype(np.uint32))
    np.save(masks / "fourth.npy", discs(8).mask > 0)
    Image.fromarray(discs(7).image).save(images / "third.jpg")
    Image.fromarray(discs(8).image).save(images / "fourth.png")
    (images / "notes.txt").write_text("not an image")
    (masks / ".hidden.png").write_text("not a mask")
    found = {each.name: each for each in read_folders(images, masks, MAX_PIXELS)}
    assert sorted(found) == ["discs-0", "discs-1", "fourth", "third"]
    assert np.array_equal(found["discs-1"].image, discs(1).image)
    assert np.array_equal(found["third"].mask, discs(7).mask)
    assert found["fourth"].mask.max() == 1
    assert all(each.mask.dtype == np.int32 for each in found.values())


def test_a_grey_mask_saved_in_colour_is_read(tmp_path: Path) -> None:
    _, masks = folders(tmp_path)
    values = discs(0).mask.astype(np.uint8)
    Image.fromarray(np.repeat(values[..., None], 3, 2)).save(masks / "discs-0.png")
    assert np.array_equal(read_folders(tmp_path / "images", masks, MAX_PIXELS)[0].mask, discs(0).mask)


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def write_mask(values: np.ndarray) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(values).save(root / "masks/discs-1.png")


def write_array(values: np.ndarray) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "masks/discs-1.png").unlink()
        np.save(root / "masks/discs-1.npy", values)

    return change


def twice(root: Path) -> None:
    Image.fromarray(discs(1).image).save(root / "images/discs-1.bmp")


def cut_short(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:50])


def only_one(root: Path) -> None:
    for number in (1, 2):
        for kind in ("images", "masks"):
            (root / kind / f"discs-{number}.png").unlink()


BAD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "an image without mask": (remove("masks/discs-1.png"), "masks", "no mask for the image of discs-1"),
    "a mask without image": (remove("images/discs-1.png"), "images", "no image for the mask of discs-1"),
    "an empty mask": (write_mask(np.zeros((96, 96), np.uint8)), "masks", "mask of discs-1 is empty"),
    "a mask of another size": (write_mask(np.ones((96, 95), np.uint8)), "masks", "95 x 96 pixels.*96 x 96"),
    "a mask in colours": (
        write_mask(np.random.default_rng(0).integers(0, 9, (96, 96, 3), np.uint8)),
        "masks",
        "not one whole number a pixel",
    ),
    "a mask of fractions": (write_array(np.ones((96, 96), np.float32)), "masks", "not one whole number"),
    "a mask below 0": (write_array(np.full((96, 96), -1)), "masks", "not one whole number"),
    "a mask that is code": (write_array(np.array([[{}]], object)), "masks", "cannot be read"),
    "a mask of nothing": (write_array(np.zeros((0, 0), np.uint8)), "masks", "not one whole number"),
    "a damaged mask": (cut_short("masks/discs-1.png"), "masks", "discs-1.png cannot be read"),
    "a damaged image": (cut_short("images/discs-1.png"), "images", "discs-1.png"),
    "a name twice": (twice, "images", "discs-1.png and discs-1.bmp|discs-1.bmp and discs-1.png"),
    "one image only": (only_one, "images", "one image"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_on_is_named(tmp_path: Path, name: str) -> None:
    change, field, message = BAD[name]
    folders(tmp_path)
    change(tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path)
    assert caught.value.field == field
    assert caught.value.remedy


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    folders(tmp_path)
    with pytest.raises(BadInput, match="no folder") as caught:
        read_folders(tmp_path / "pictures", tmp_path / "masks", MAX_PIXELS)
    assert caught.value.field == "images"


def test_some_images_are_held_out_and_stay_so() -> None:
    found = [discs(seed) for seed in range(20)]
    learn, held_out = split_validation(found, 0.2)
    assert len(held_out) == 4
    assert not {each.name for each in learn} & {each.name for each in held_out}
    assert split_validation(found[::-1], 0.2)[1] == held_out
    assert len(split_validation(found[:2], 0.0)[1]) == 1, "something to judge by"
    assert len(split_validation(found[:2], 0.9)[0]) == 1, "something to learn from"


def test_a_changed_mask_is_another_set() -> None:
    one, other = discs(0), discs(0)
    other.mask[0, 0] = 9
    assert digest_images([one]) == digest_images([discs(0)]) != digest_images([other])
