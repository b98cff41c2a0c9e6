"""A user's folders of images and masks, paired by name and checked before anything is trained.

images/cell-01.tif    PNG, JPEG, WebP, BMP or TIFF, as the service reads them
masks/cell-01.png     PNG, TIFF or NPY, the same size; one value a pixel, 0 is background
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from segserve.errors import BadInput, SegserveError
from segserve.images.read_image import read_image
from segserve.types import ReadOptions, UInt8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
MAX_NAMES_SHOWN = 3  # names in a message
MIN_IMAGES = 2  # one to learn from, one to judge by


@dataclass(frozen=True)
class LabelledImage:
    """image [H, W, 3] uint8 RGB; mask [H, W] int32, 0 background."""

    name: str
    image: UInt8
    mask: NDArray[np.int32]


def read_folders(images: Path, masks: Path, max_pixels: int) -> list[LabelledImage]:
    """Every image with its mask, by name. Raises BadInput for folders that cannot be trained on, naming files."""
    pictures, drawn = list_files(images, IMAGE_SUFFIXES, "images"), list_files(masks, MASK_SUFFIXES, "masks")
    for what, lone, there in (
        ("image", sorted(pictures.keys() - drawn.keys()), "mask"),
        ("mask", sorted(drawn.keys() - pictures.keys()), "image"),
    ):
        if lone:
            raise BadInput(
                f"There is no {there} for the {what} of {join_names(lone)}.",
                field="masks" if there == "mask" else "images",
                remedy="An image and its mask have the same name, whatever their suffixes.",
            )
    if len(pictures) < MIN_IMAGES:
        raise BadInput(
            f"There {'is one image' if pictures else 'are no images'} with a mask in these folders.",
            field="images",
            remedy=f"Give at least {MIN_IMAGES}: one to learn from, one to judge by.",
        )
    found = [read_labelled_image(name, pictures[name], drawn[name], max_pixels) for name in sorted(pictures)]
    empty = [each.name for each in found if not each.mask.any()]
    if empty:
        raise BadInput(
            f"The mask of {join_names(empty)} is empty.",
            field="masks",
            remedy="Draw what is there, or take image and mask out of the folders.",
        )
    return found


def list_files(folder: Path, suffixes: tuple[str, ...], field: str) -> dict[str, Path]:
    """The folder's files with such suffixes by their names without suffix; hidden ones are passed over."""
    if not folder.is_dir():
        raise BadInput(
            f"There is no folder {folder}.", field=field, remedy=f"Give the folder of the {field}."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise BadInput(
                f"{path.name} and {found[path.stem].name} have the same name.",
                field=field,
                remedy="Keep one of the two.",
            )
        found[path.stem] = path
    return found


def read_labelled_image(name: str, image: Path, mask: Path, max_pixels: int) -> LabelledImage:
    try:
        with image.open("rb") as file:
            pixels = read_image(file, ReadOptions(), max_pixels)
    except SegserveError as error:
        raise BadInput(f"{image.name}: {error.message}", field="images", remedy=error.remedy) from error
    labels = read_mask(mask)
    if labels.shape != pixels.shape[:2]:
        raise BadInput(
            f"The mask {mask.name} has {labels.shape[1]} x {labels.shape[0]} pixels, its image "
            f"{pixels.shape[1]} x {pixels.shape[0]}.",
            field="masks",
            remedy="Save the mask at the image's size.",
        )
    return LabelledImage(name, pixels, labels)


def read_mask(path: Path) -> NDArray[np.int32]:
    """[H, W] int32. Raises BadInput for anything but one whole number a pixel."""
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".png":
            values = imagecodecs.png_decode(path.read_bytes())
        else:
            values = tifffile.imread(path)
    except Exception as error:  # damaged bytes make the readers fail in any way
        raise BadInput(
            f"The mask {path.name} cannot be read.", field="masks", remedy="Save it as PNG, TIFF or NPY."
        ) from error
    if values.ndim == 3 and values.shape[2] in (1, 3, 4) and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]  # a grey mask saved as a colour picture
    whole = values.ndim == 2 and values.size and values.dtype.kind in "bui"
    if not whole or values.min() < 0 or values.max() >= 2**31:
        raise BadInput(
            f"The mask {path.name} is not one whole number a pixel, 0 or more.",
            field="masks",
            remedy="Save 0 for background, and a number for each object or class.",
        )
    return values.astype(np.int32)


def split_validation(
    found: list[LabelledImage], share: float
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """(to learn from, to judge by): that share of the images, at least one of each; the hash of the name
    chooses, and not the order of the files. Images that join may take the place of some."""
    order = sorted(found, key=lambda each: hashlib.sha256(each.name.encode()).hexdigest())
    count = min(max(1, round(share * len(order))), len(order) - 1)
    return order[count:], order[:count]


def digest_images(found: Iterable[LabelledImage]) -> str:
    """Stands for names, images and masks, hexadecimal."""
    whole = hashlib.sha256()
    for each in found:
        whole.update(f"{each.name} {each.mask.shape} ".encode())
        whole.update(each.image.tobytes())
        whole.update(each.mask.tobytes())
    return whole.hexdigest()


def join_names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
