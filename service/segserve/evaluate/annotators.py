"""Several annotators' masks of the same images: one truth of them, by STAPLE.

truth/anna/cell-01.png    a folder for each annotator; the files are named as the images are
truth/ben/cell-01.png

STAPLE (Warfield et al., 2004, IEEE TMI 23) estimates at once what is true and how reliable each annotator is.
SimpleITK computes it; for classes the version of Rohlfing et al. (2003, IPMI). Both count pixels. Objects that each
annotator numbers in an own way have no such truth.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, MissingDependency
from segserve.masks.label_map import Labels

MIN_PROBABILITY = 0.5  # of a pixel that is true
UNDECIDED = 0  # where several classes are equally likely: background


def find_annotators(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the folders of the annotators, sorted by name; none where `folder` holds such files itself."""
    if not folder.is_dir() or has_files(folder, suffixes):
        return []
    folders = (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    return sorted(each for each in folders if has_files(each, suffixes))


def has_files(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(
        each.name.lower().endswith(suffixes) and not each.name.startswith(".") and each.is_file()
        for each in folder.iterdir()
    )


def refuse_annotators(folder: Path, annotators: Sequence[Path], field: str) -> None:
    """Raise BadInput where there are several annotators, and objects are wanted."""
    if annotators:
        names = ", ".join(each.name for each in annotators[:3])
        raise BadInput(
            f"{folder} holds a folder for each annotator ({names}), who number the objects each in an own way.",
            field=field,
            remedy=f"Name one of them, such as {annotators[0]}.",
        )


def require_staple(extra: str) -> None:
    """Raise MissingDependency where SimpleITK is not installed. extra: the extra that brings it."""
    if importlib.util.find_spec("SimpleITK") is None:
        raise MissingDependency("SimpleITK", extra, "Making one truth of several annotators' masks")


def merge_masks(masks: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the consensus [H, W] of 0 and 1 of masks [H, W], in which every value but 0 is the region."""
    import SimpleITK as sitk

    regions = [(each > 0).astype(np.uint8) for each in masks]
    if all(np.array_equal(each, regions[0]) for each in regions[1:]):
        return regions[0]
    probability = sitk.GetArrayFromImage(sitk.STAPLE([sitk.GetImageFromArray(each) for each in regions], 1.0))
    consensus: NDArray[np.uint8] = (probability >= MIN_PROBABILITY).astype(np.uint8)
    return consensus


def merge_classes(maps: Sequence[Labels]) -> Labels:
    """Return the consensus [H, W] of class maps [H, W]. Where it is undecided it is background."""
    import SimpleITK as sitk

    if all(np.array_equal(each, maps[0]) for each in maps[1:]):
        return maps[0]
    values = np.unique(np.concatenate([[UNDECIDED], *(np.unique(each) for each in maps)]))
    # Its confusion matrices have a row for every value up to the largest: 0 to n in place of what occurs.
    numbered = [np.searchsorted(values, each).astype(np.uint16) for each in maps]
    staple = sitk.MultiLabelSTAPLEImageFilter()
    staple.SetLabelForUndecidedPixels(UNDECIDED)
    merged = sitk.GetArrayFromImage(staple.Execute([sitk.GetImageFromArray(each) for each in numbered]))
    consensus: Labels = values[merged].astype(np.result_type(*maps))
    return consensus
