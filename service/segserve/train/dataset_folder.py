"""A user's folders of images and masks: paired by file name, checked before training, split for validation.

images/cell-01.tif    of any format that the service reads as a picture
masks/cell-01.png     PNG, TIFF or NPY, the same size; one value a pixel, 0 is background

Of classes there may be a folder for each annotator, masks/anna/cell-01.png; see `segserve.evaluate.annotators`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from segserve.errors import BadInput, SegserveError
from segserve.evaluate.annotators import (
    find_annotators,
    merge_classes,
    merge_masks,
    refuse_annotators,
    require_staple,
)
from segserve.files.local_pictures import PICTURE_SUFFIXES, LocalPictures
from segserve.types import UInt8

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
MAX_NAMES_SHOWN = 3  # in a message
MIN_IMAGES = 2  # one for training, one for validation

Merge = Callable[[Sequence[NDArray[np.int32]]], NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its mask. image: [H, W, 3] uint8 RGB. mask: [H, W] int32, 0 is background."""

    name: str
    image: UInt8
    mask: NDArray[np.int32]


def read_folders(
    images: Path, masks: Path, max_pixels: int, class_count: int | None = None
) -> list[LabelledImage]:
    """Read every image with its mask, sorted by name.

    class_count: classes that the masks' values mean; several annotators' masks become one. None: values number objects.
    Raises BadInput that names the files, for folders that cannot be trained on, and MissingDependency.
    """
    image_files = list_files(images, PICTURE_SUFFIXES, "images")
    mask_files = list_masks(masks, with_annotators=class_count is not None)
    check_pairing(image_files, mask_files)
    merge: Merge = merge_masks if class_count == 1 else merge_classes
    with LocalPictures(max_pixels) as pictures:
        labelled = [
            read_labelled_image(name, image_files[name], mask_files[name], pictures, merge)
            for name in sorted(image_files)
        ]
    empty = [each.name for each in labelled if not each.mask.any()]
    if empty:
        raise BadInput(
            f"The mask of {join_names(empty)} is empty.",
            field="masks",
            remedy="Draw what is there, or take image and mask out of the folders.",
        )
    return labelled


def list_masks(folder: Path, *, with_annotators: bool) -> dict[str, tuple[Path, ...]]:
    """Return each image's masks, by stem: one, or one for each annotator who drew it. Raises BadInput."""
    annotators = find_annotators(folder, MASK_SUFFIXES)
    if not with_annotators:
        refuse_annotators(folder, annotators, "masks")
    if len(annotators) > 1:
        require_staple("train")
    masks: dict[str, tuple[Path, ...]] = {}
    for each in annotators or [folder]:
        for name, path in list_files(each, MASK_SUFFIXES, "masks").items():
            masks[name] = (*masks.get(name, ()), path)
    return masks


def list_files(folder: Path, suffixes: tuple[str, ...], field: str) -> dict[str, Path]:
    """Return the folder's files with one of the suffixes, by stem. Hidden files are left out.

    Raises BadInput where the folder is missing, or two files have the same stem.
    """
    if not folder.is_dir():
        raise BadInput(
            f"There is no folder {folder}.", field=field, remedy=f"Give the folder of the {field}."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            raise BadInput(
                f"{path.name} and {files[path.stem].name} have the same name.",
                field=field,
                remedy="Keep one of the two.",
            )
        files[path.stem] = path
    return files


def check_pairing(images: Mapping[str, object], masks: Mapping[str, object]) -> None:
    """Raise BadInput unless every image has a mask, every mask an image, and there are enough of them."""
    for kind, lone, missing in (
        ("image", sorted(images.keys() - masks.keys()), "mask"),
        ("mask", sorted(masks.keys() - images.keys()), "image"),
    ):
        if lone:
            raise BadInput(
                f"There is no {missing} for the {kind} of {join_names(lone)}.",
                field="masks" if missing == "mask" else "images",
                remedy="An image and its mask have the same name, whatever their suffixes.",
            )
    if len(images) < MIN_IMAGES:
        raise BadInput(
            f"There {'is one image' if images else 'are no images'} with a mask in these folders.",
            field="images",
            remedy=f"Give at least {MIN_IMAGES}: one for training, one for validation.",
        )


def read_labelled_image(
    name: str, image: Path, masks: Sequence[Path], pictures: LocalPictures, merge: Merge
) -> LabelledImage:
    """Read an image and its mask. merge: makes one of several. Raises BadInput that names the file."""
    try:
        pixels = pictures.read(image)
    except SegserveError as error:
        raise BadInput(f"{image.name}: {error.message}", field="images", remedy=error.remedy) from error
    labels = []
    for mask in masks:
        labels.append(read_mask(mask))
        if labels[-1].shape != pixels.shape[:2]:
            raise BadInput(
                f"The mask {mask.name} has {labels[-1].shape[1]} x {labels[-1].shape[0]} pixels, its image "
                f"{pixels.shape[1]} x {pixels.shape[0]}.",
                field="masks",
                remedy="Save the mask at the image's size.",
            )
    merged = labels[0] if len(labels) == 1 else merge(labels).astype(np.int32)
    return LabelledImage(name, pixels, merged)


def read_mask(path: Path) -> NDArray[np.int32]:
    """Read a mask [H, W] int32. Raises BadInput for anything but one whole number a pixel, 0 or more."""
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".png":
            values = imagecodecs.png_decode(path.read_bytes())
        else:
            values = tifffile.imread(path)
    except Exception as error:  # the readers raise anything for damaged bytes
        raise BadInput(
            f"The mask {path.name} cannot be read.", field="masks", remedy="Save it as PNG, TIFF or NPY."
        ) from error
    if values.ndim == 3 and values.shape[2] in (1, 3, 4) and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]  # a grey mask saved as a colour image
    is_integer_map = values.ndim == 2 and values.size and values.dtype.kind in "bui"
    if not is_integer_map or values.min() < 0 or values.max() >= 2**31:
        raise BadInput(
            f"The mask {path.name} is not one whole number a pixel, 0 or more.",
            field="masks",
            remedy="Save 0 for background, and a number for each object or class.",
        )
    return values.astype(np.int32)


def split_validation(
    images: list[LabelledImage], share: float
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Split images into (training, validation). share: the part for validation; at least one image on each side.

    The hash of the name decides, not the order of the files. When images are added, the split may change a little.
    """
    order = sorted(images, key=lambda each: hashlib.sha256(each.name.encode()).hexdigest())
    count = min(max(1, round(share * len(order))), len(order) - 1)
    return order[count:], order[:count]


def digest_images(images: Iterable[LabelledImage]) -> str:
    """Return a sha256, hexadecimal, over names, images and masks."""
    digest = hashlib.sha256()
    for each in images:
        digest.update(f"{each.name} {each.mask.shape} ".encode())
        digest.update(each.image.tobytes())
        digest.update(each.mask.tobytes())
    return digest.hexdigest()


def join_names(names: list[str]) -> str:
    """Return the first names as a list in a sentence, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
