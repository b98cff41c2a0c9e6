"""Folders of images, truths and predictions, paired by the names of their files without the ending."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile
from tifffile import TiffFile

from segserve.errors import BadInput, SegserveError
from segserve.images.image_source import wrap_codec_errors
from segserve.images.read_image import read_image
from segserve.masks.label_map import Labels
from segserve.types import ReadOptions, UInt8

MAP_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 1 << 30
MAX_NAMES_SHOWN = 5  # files that a message names before it only counts
MAP_REMEDY = "Save it as a 16-bit greyscale PNG, a TIFF or a .npy of integers, one value a pixel."
SINGLE_VALUE_MODES = (
    "1",
    "L",
    "P",
    "I",
    "I;16",
)  # Pillow's modes of one value a pixel, a palette's index among them


@dataclass(frozen=True)
class FilePair:
    """An image, or what was predicted for it, and its truth. name: the files', without the ending."""

    name: str
    path: Path
    truth: Path


def pair_files(folder: Path, truths: Path, *, images: bool) -> list[FilePair]:
    """By name, in its order. images: the first folder holds images rather than maps. Other files, and hidden
    ones, are passed over. Raises BadInput naming the first files without a partner."""
    first, second = (
        list_files(folder, IMAGE_SUFFIXES if images else MAP_SUFFIXES),
        list_files(truths, MAP_SUFFIXES),
    )
    for here, there, missing in ((first, second, truths), (second, first, folder)):
        if alone := sorted(here.keys() - there.keys()):
            names = ", ".join(here[stem].name for stem in alone[:MAX_NAMES_SHOWN])
            more = f" and {len(alone) - MAX_NAMES_SHOWN} more" if len(alone) > MAX_NAMES_SHOWN else ""
            raise BadInput(
                f"{names}{more} have no partner in {missing}.",
                field=str(missing),
                remedy="Each image or prediction needs one truth whose file has the same name but for the ending.",
            )
    return [FilePair(stem, first[stem], second[stem]) for stem in sorted(first)]


def list_files(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The folder's files with one of the endings, by stem. Raises BadInput where there are none, or two of one
    stem."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", field=str(folder), remedy="Name a folder of files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in endings or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise BadInput(
                f"{found[path.stem].name} and {path.name} in {folder} have one name.",
                field=str(folder),
                remedy="Keep one of them there.",
            )
        found[path.stem] = path
    if not found:
        raise BadInput(
            f"{folder} holds no file ending in {', '.join(endings)}.",
            field=str(folder),
            remedy="Name a folder that does.",
        )
    return found


def read_label_map(path: Path) -> Labels:
    """A label or class map [H, W] of values from 0: greyscale or palette PNG, TIFF of one page, .npy.

    Raises BadInput naming the file.
    """
    try:
        values = READER_BY_SUFFIX[path.suffix.lower()](path)
    except (SegserveError, OSError) as error:
        raise unreadable_map(path, str(error)) from None
    if values.ndim != 2 or not values.size:
        raise unreadable_map(path, f"It is an array of {values.shape}, not [height, width].")
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer):
        raise unreadable_map(path, f"Its values are {values.dtype}, not integers.")
    if values.min() < 0:
        raise unreadable_map(path, "It has values below 0.")
    return values


def read_map_pair(found: Path, truth: Path) -> tuple[Labels, Labels]:
    """Both maps. Raises BadInput also where their sizes differ."""
    maps = read_label_map(found), read_label_map(truth)
    check_sizes(found, maps[0].shape[:2], truth, maps[1].shape[:2])
    return maps


def read_rgb(path: Path) -> UInt8:
    """[H, W, 3] as models see it. Raises BadInput naming the file."""
    try:
        with path.open("rb") as file:
            return read_image(file, ReadOptions(), MAX_PIXELS)
    except (SegserveError, OSError) as error:
        raise BadInput(f"{path} cannot be read: {error}", field=str(path)) from None


def check_pair(pair: FilePair) -> None:
    """Can an image and its truth be read, and do they fit? Raises BadInput naming the file at fault."""
    check_sizes(pair.path, read_rgb(pair.path).shape[:2], pair.truth, read_label_map(pair.truth).shape)


def check_sizes(path: Path, size: tuple[int, ...], truth: Path | str, truth_size: tuple[int, ...]) -> None:
    """(height, width) each. Raises BadInput."""
    if size != truth_size:
        raise BadInput(
            f"{path} is {size[1]} x {size[0]} pixels and {truth} is {truth_size[1]} x {truth_size[0]}.",
            field=str(path),
            remedy="Save both at the image's size.",
        )


def unreadable_map(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path} cannot be read as a map: {reason}", field=str(path), remedy=MAP_REMEDY)


def read_png(path: Path) -> NDArray[Any]:
    with wrap_codec_errors("PNG"), path.open("rb") as file:
        # Pillow's class for the format rather than Image.open, whose limit of pixels is a global and warns.
        image = PngImageFile(file)
        if image.width * image.height > MAX_PIXELS or image.mode not in SINGLE_VALUE_MODES:
            raise BadInput(f"It is {image.width} x {image.height}, mode {image.mode}.")
        image.info.pop("transparency", None)  # of a palette; Pillow warns if it is there
        return np.asarray(image)


def read_tiff(path: Path) -> NDArray[Any]:
    with wrap_codec_errors("TIFF"), TiffFile(path) as file:
        if len(file.pages) != 1 or file.pages[0].size > MAX_PIXELS:
            raise BadInput(f"It has {len(file.pages)} pages, of {file.pages[0].shape}.")
        values: NDArray[Any] = file.pages[0].asarray()
        return values


def read_npy(path: Path) -> NDArray[Any]:
    with wrap_codec_errors("npy"):
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.ndarray) or values.size > MAX_PIXELS:
            raise BadInput("It is no array, or a very large one.")
        return np.array(values)


READER_BY_SUFFIX = {".png": read_png, ".tif": read_tiff, ".tiff": read_tiff, ".npy": read_npy}
