"""Files of ground truth: pairs of images (or predictions) and truths from two folders, and readers of label maps.

A pair has the same file name, without the suffix. Several annotators' truths of an image become one; see `annotators`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile
from tifffile import TiffFile

from segserve.errors import BadInput, SegserveError
from segserve.evaluate.annotators import (
    find_annotators,
    merge_classes,
    merge_masks,
    refuse_annotators,
    require_staple,
)
from segserve.evaluate.cli_choices import MapKind
from segserve.files.local_pictures import PICTURE_SUFFIXES, LocalPictures
from segserve.images.image_source import wrap_codec_errors
from segserve.masks.label_map import Labels
from segserve.types import UInt8

MAP_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
MAX_PIXELS = 1 << 30  # of an image or map; a damaged header could claim more than memory holds
MAX_NAMES_SHOWN = 5  # files that a message names; it counts the others
MAP_REMEDY = "Save it as a 16-bit greyscale PNG, a TIFF or a .npy of integers, one value a pixel."
SINGLE_VALUE_MODES = (
    "1",
    "L",
    "P",
    "I",
    "I;16",
)  # Pillow's modes of one value a pixel; P has a palette's indices


@dataclass(frozen=True)
class FilePair:
    """The file of an image, or of a prediction, and the file of its truth. name: of both files, without suffix.

    other_truths: those of the other annotators, where there are several.
    """

    name: str
    path: Path
    truth: Path
    other_truths: tuple[Path, ...] = ()

    @property
    def truths(self) -> tuple[Path, ...]:
        return self.truth, *self.other_truths


def pair_files(folder: Path, truths: Path, *, images: bool, kind: MapKind = MapKind.LABELS) -> list[FilePair]:
    """Pair the files of two folders by name, sorted by name.

    images: the first folder holds images, not maps. Hidden files and files of other suffixes are left out.
    kind: what the truths' values mean. Of all kinds but labels there may be a folder for each annotator.
    What has no truth is left out, and told on stderr. Raises BadInput as `pair_names` does, and MissingDependency.
    """
    suffixes = PICTURE_SUFFIXES if images else MAP_SUFFIXES
    annotators = find_annotators(truths, MAP_SUFFIXES)
    if not annotators:
        return pair_by_name(folder, suffixes, truths, MAP_SUFFIXES)
    if kind is MapKind.LABELS:
        refuse_annotators(truths, annotators, str(truths))
    require_staple("evaluate")
    first, by_name = list_files(folder, suffixes), dict[str, list[Path]]()
    for annotator in annotators:
        for name, path in list_files(annotator, MAP_SUFFIXES).items():
            by_name.setdefault(name, []).append(path)
    paired = pair_names(folder, first, truths, {name: paths[0] for name, paths in by_name.items()})
    return [FilePair(name, first[name], *split_truths(by_name[name])) for name in paired]


def split_truths(paths: list[Path]) -> tuple[Path, tuple[Path, ...]]:
    return paths[0], tuple(paths[1:])


def pair_by_name(
    folder: Path, suffixes: tuple[str, ...], truths: Path, truth_suffixes: tuple[str, ...]
) -> list[FilePair]:
    """Pair the files of two folders that end with one of the suffixes, as `pair_files` does."""
    first, second = list_files(folder, suffixes), list_files(truths, truth_suffixes)
    return [FilePair(stem, first[stem], second[stem]) for stem in pair_names(folder, first, truths, second)]


def pair_names(folder: Path, first: dict[str, Path], truths: Path, second: dict[str, Path]) -> list[str]:
    """Return the names of the pairs, sorted. What has no truth is left out, and told on stderr.

    Raises BadInput where nothing has a truth, or where a truth has no partner: what was not found counts.
    """
    without_truth, without_partner = sorted(first.keys() - second), sorted(second.keys() - first)
    if without_partner or len(without_truth) == len(first):
        lone, partner_folder = (without_partner, folder) if without_partner else (without_truth, truths)
        raise BadInput(
            f"{name_files(second if without_partner else first, lone)} have no partner in {partner_folder}.",
            field=str(partner_folder),
            remedy="Each truth needs one image or prediction with the same file name, apart from the suffix.",
        )
    if without_truth:
        has = "has" if len(without_truth) == 1 else "have"
        typer.echo(f"{name_files(first, without_truth)} {has} no truth in {truths}: left out.", err=True)
    return sorted(second)


def name_files(files: dict[str, Path], names: list[str]) -> str:
    """Return the names of the first files, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(files[name].name for name in names[:MAX_NAMES_SHOWN]) + more


def list_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the folder's files with one of the suffixes, by name without it.

    suffixes: where one ends with another (".nii.gz", ".gz"), the longer one stands first.
    Raises BadInput where there are none, or two with the same name.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder.", field=str(folder), remedy="Name a folder of files.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((each for each in suffixes if path.name.lower().endswith(each)), None)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(suffix)]
        if name in files:
            raise BadInput(
                f"{files[name].name} and {path.name} in {folder} have the same name.",
                field=str(folder),
                remedy="Keep one of them there.",
            )
        files[name] = path
    if not files:
        raise BadInput(
            f"{folder} holds no file ending in {', '.join(suffixes)}.",
            field=str(folder),
            remedy="Name a folder that does.",
        )
    return files


def read_label_map(path: Path) -> Labels:
    """Read a label or class map [H, W] of values from 0: greyscale or palette PNG, TIFF of one page, .npy.

    Raises BadInput that names the file.
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


def read_truth(pair: FilePair, kind: MapKind) -> Labels:
    """Read the truth [H, W], that of all annotators together. Raises BadInput, also where their sizes differ."""
    maps = [read_label_map(path) for path in pair.truths]
    for path, other in zip(pair.other_truths, maps[1:], strict=True):
        check_sizes(path, other.shape, pair.truth, maps[0].shape)
    if len(maps) == 1:
        return maps[0]
    return merge_masks(maps) if kind is MapKind.BINARY else merge_classes(maps)


def read_map_pair(pair: FilePair, kind: MapKind) -> tuple[Labels, Labels]:
    """Read (prediction [H, W], truth [H, W]). Raises BadInput, also where their sizes differ."""
    maps = read_label_map(pair.path), read_truth(pair, kind)
    check_sizes(pair.path, maps[0].shape[:2], pair.truth, maps[1].shape[:2])
    return maps


def read_rgb(path: Path, pictures: LocalPictures) -> UInt8:
    """Read an image [H, W, 3] as models get it. Raises BadInput that names the file."""
    try:
        return pictures.read(path)
    except (SegserveError, OSError) as error:
        raise BadInput(f"{path} cannot be read: {error}", field=str(path)) from None


def check_pair(pair: FilePair, pictures: LocalPictures) -> None:
    """Check that an image and its truths can be read and have one size. Raises BadInput that names the file."""
    size = read_rgb(pair.path, pictures).shape[:2]
    for truth in pair.truths:
        check_sizes(pair.path, size, truth, read_label_map(truth).shape)


def check_sizes(path: Path, size: tuple[int, ...], truth: Path | str, truth_size: tuple[int, ...]) -> None:
    """Raise BadInput unless both sizes, (height, width), are equal."""
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
        # Image.open has a limit of pixels that is global and only warns; the format's own class has none.
        image = PngImageFile(file)
        if image.width * image.height > MAX_PIXELS or image.mode not in SINGLE_VALUE_MODES:
            raise BadInput(f"It is {image.width} x {image.height}, mode {image.mode}.")
        image.info.pop("transparency", None)  # Pillow warns about a palette's transparency
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
            raise BadInput("It is not an array, or a very large one.")
        return np.array(values)


READER_BY_SUFFIX = {".png": read_png, ".tif": read_tiff, ".tiff": read_tiff, ".npy": read_npy}
