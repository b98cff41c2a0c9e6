"""Folders of images and masks are paired by name; what cannot be trained on is refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import BadInput
from segserve.train.dataset_folder import digest_images, read_folders, split_validation
from tests.train.drawn_discs import draw_discs, write_folders

MAX_PIXELS = 1_000_000


def read_names(root: Path) -> list[str]:
    return [each.name for each in read_folders(root / "images", root / "masks", MAX_PIXELS)]


def test_images_and_masks_are_paired_by_name(tmp_path: Path) -> None:
    images, masks = write_folders(tmp_path, 2)
    tifffile.imwrite(masks / "third.tif", draw_discs(7).mask.astype(np.uint32))
    np.save(masks / "fourth.npy", draw_discs(8).mask > 0)
    Image.fromarray(draw_discs(7).image).save(images / "third.jpg")
    Image.fromarray(draw_discs(8).image).save(images / "fourth.png")
    (images / "notes.txt").write_text("not an image")
    (masks / ".hidden.png").write_text("not a mask")
    labelled = {each.name: each for each in read_folders(images, masks, MAX_PIXELS)}
    assert sorted(labelled) == ["discs-0", "discs-1", "fourth", "third"]
    assert np.array_equal(labelled["discs-1"].image, draw_discs(1).image)
    assert np.array_equal(labelled["third"].mask, draw_discs(7).mask)
    assert labelled["fourth"].mask.max() == 1
    assert all(each.mask.dtype == np.int32 for each in labelled.values())


def test_images_are_of_any_format_that_the_service_reads(tmp_path: Path) -> None:
    images, masks = write_folders(tmp_path, 2)
    for name, form in (("third.gif", "GIF"), ("fourth.ppm", "PPM")):
        Image.fromarray(draw_discs(7).image).save(images / name, form)
        Image.fromarray(draw_discs(7).mask.astype(np.uint16)).save(masks / f"{name[:-4]}.png")
    labelled = {each.name: each for each in read_folders(images, masks, MAX_PIXELS)}
    assert np.array_equal(labelled["fourth"].image, draw_discs(7).image)
    assert labelled["third"].image.shape == draw_discs(7).image.shape


def test_a_grey_mask_saved_in_colour_is_read(tmp_path: Path) -> None:
    _, masks = write_folders(tmp_path)
    values = draw_discs(0).mask.astype(np.uint8)
    Image.fromarray(np.repeat(values[..., None], 3, 2)).save(masks / "discs-0.png")
    assert np.array_equal(read_folders(tmp_path / "images", masks, MAX_PIXELS)[0].mask, draw_discs(0).mask)


def remove_file(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def write_mask(values: np.ndarray) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(values).save(root / "masks/discs-1.png")


def write_array(values: np.ndarray) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "masks/discs-1.png").unlink()
        np.save(root / "masks/discs-1.npy", values)

    return change


def add_twin(root: Path) -> None:
    Image.fromarray(draw_discs(1).image).save(root / "images/discs-1.bmp")


def truncate(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:50])


def leave_one(root: Path) -> None:
    for number in (1, 2):
        for kind in ("images", "masks"):
            (root / kind / f"discs-{number}.png").unlink()


BAD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "an image without mask": (remove_file("masks/discs-1.png"), "masks", "no mask for the image of discs-1"),
    "a mask without image": (remove_file("images/discs-1.png"), "images", "no image for the mask of discs-1"),
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
    "a damaged mask": (truncate("masks/discs-1.png"), "masks", "discs-1.png cannot be read"),
    "a damaged image": (truncate("images/discs-1.png"), "images", "discs-1.png"),
    "a name twice": (add_twin, "images", "discs-1.png and discs-1.bmp|discs-1.bmp and discs-1.png"),
    "one image only": (leave_one, "images", "one image"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_trained_on_are_named(tmp_path: Path, name: str) -> None:
    change, field, message = BAD[name]
    write_folders(tmp_path)
    change(tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        read_names(tmp_path)
    assert caught.value.field == field
    assert caught.value.remedy


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    with pytest.raises(BadInput, match="no folder") as caught:
        read_folders(tmp_path / "pictures", tmp_path / "masks", MAX_PIXELS)
    assert caught.value.field == "images"


def test_the_validation_split_does_not_depend_on_the_order_of_images() -> None:
    images = [draw_discs(seed) for seed in range(20)]
    training, validation = split_validation(images, 0.2)
    assert len(validation) == 4
    assert not {each.name for each in training} & {each.name for each in validation}
    assert split_validation(images[::-1], 0.2)[1] == validation
    assert len(split_validation(images[:2], 0.0)[1]) == 1, "one for validation"
    assert len(split_validation(images[:2], 0.9)[0]) == 1, "one for training"


def test_a_changed_mask_changes_the_digest() -> None:
    one, other = draw_discs(0), draw_discs(0)
    other.mask[0, 0] = 9
    assert digest_images([one]) == digest_images([draw_discs(0)]) != digest_images([other])
