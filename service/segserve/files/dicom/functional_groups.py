"""The functional groups of enhanced multi-frame objects (PS3.3, C.7.6.16), and values of a data set."""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

MAX_TEXT_CHARS = 200
# Value representations of plain text without a character set.
PLAIN_TEXTS = {"CS", "DA", "DS", "DT", "IS", "TM", "UI"}


@cache
def tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


def value_of(data_set: Dataset, keyword: str) -> Any:
    """Return the value of an element, or None. Raises anything for a value that is not of its representation.

    Short cuts for what headers mostly hold: pydicom takes 20 times as long to convert and validate a value, which
    counts for thousands of files.
    """
    tag = tag_of(keyword)
    if tag not in data_set:
        return None
    raw = data_set.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value is not None:
        if raw.VR in PLAIN_TEXTS:
            texts = raw.value.decode("ascii").rstrip(" \0").split("\\")
            return [text.strip(" \0") for text in texts] if len(texts) > 1 else texts[0]
        if raw.VR == "US" and len(raw.value) == 2:
            return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
    return data_set[tag].value


def number(data_set: Dataset, keyword: str) -> float | None:
    """Return the first value of an element as a finite number, or None."""
    values = numbers(data_set, keyword)
    return values[0] if values else None


def numbers(data_set: Dataset, keyword: str) -> list[float]:
    """Return the values of an element as finite numbers; none where any is not."""
    with suppress(Exception):  # pydicom raises anything for a value that is not of its representation
        value = value_of(data_set, keyword)
        if value is None or value == "":
            return []
        values = [float(v) for v in (value if is_multi(value) else [value])]
        return values if all(map(math.isfinite, values)) else []
    return []


def is_multi(value: Any) -> bool:
    return isinstance(value, list | tuple | MultiValue)


def texts(data_set: Dataset, keyword: str) -> list[str]:
    with suppress(Exception):
        value = value_of(data_set, keyword)
        if value is None or value == "":
            return []
        return [str(v)[:MAX_TEXT_CHARS] for v in (value if is_multi(value) else [value])]
    return []


def text(data_set: Dataset, keyword: str) -> str:
    values = texts(data_set, keyword)
    return "\\".join(values)[:MAX_TEXT_CHARS] if values else ""


def unit_orientation(values: Sequence[float]) -> Any:
    """Return six direction cosines, each three of length 1, or None where they are no directions."""
    if len(values) != 6:
        return None
    row, column = np.array(values[:3]), np.array(values[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.5 or max(lengths) > 2:
        return None
    row, column = row / lengths[0], column / lengths[1]
    return None if abs(row @ column) > 0.01 else (*row.tolist(), *column.tolist())


class FrameGroups:
    """`FrameGroups` finds the attributes of each frame: its own, those that all share, or the file's."""

    def __init__(self, data_set: Dataset) -> None:
        self._data_set = data_set
        self._own: Any = []
        self._shared = Dataset()
        with suppress(Exception):
            self._own = data_set["PerFrameFunctionalGroupsSequence"].value
        with suppress(Exception):
            self._shared = data_set["SharedFunctionalGroupsSequence"].value[0]

    def find(self, index: int, keyword: str) -> Dataset:
        """Return the first item of a group of a frame; the file's own data set where there is none."""
        for group in (self._own[index] if index < len(self._own) else None, self._shared):
            with suppress(Exception):
                if group is not None and keyword in group:
                    item: Dataset = group[keyword].value[0]
                    return item
        return self._data_set

    def position(self, index: int) -> Any:
        values = numbers(self.find(index, "PlanePositionSequence"), "ImagePositionPatient")
        if len(values) != 3:
            values = numbers(self.find(index, "PlanePositionVolumeSequence"), "ImagePositionVolume")
        return tuple(values) if len(values) == 3 else None

    def orientation(self, index: int) -> Any:
        values = numbers(self.find(index, "PlaneOrientationSequence"), "ImageOrientationPatient")
        if len(values) != 6:
            values = numbers(self.find(index, "PlaneOrientationVolumeSequence"), "ImageOrientationVolume")
        return unit_orientation(values)

    def pixel_spacing(self, index: int) -> tuple[float, float] | None:
        values = numbers(self.find(index, "PixelMeasuresSequence"), "PixelSpacing")
        return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None

    def slice_spacing(self, index: int) -> float | None:
        measures = self.find(index, "PixelMeasuresSequence")
        spacing = number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness")
        return abs(spacing) if spacing else None

    def stack(self, index: int) -> str:
        return text(self.find(index, "FrameContentSequence"), "StackID")[:32]

    def keys(self, index: int) -> tuple[tuple[Any, ...], ...]:
        """Return the values of `image_file.KEY_NAMES`."""
        content = self.find(index, "FrameContentSequence")

        def one(data_set: Dataset, keyword: str) -> tuple[Any, ...]:
            value = number(data_set, keyword)
            return () if value is None else (value,)

        diffusion = self.find(index, "MRDiffusionSequence")
        b_value = one(diffusion, "DiffusionBValue")
        with suppress(Exception):
            gradient = diffusion["DiffusionGradientDirectionSequence"].value[0]
            b_value = (*b_value, *numbers(gradient, "DiffusionGradientOrientation"))
        types: list[str] = []
        for keyword in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
            types = types or texts(self.find(index, keyword), "FrameType")
        echo = one(self.find(index, "MREchoSequence"), "EffectiveEchoTime")
        return (
            one(content, "TemporalPositionIndex"),
            echo or one(self._data_set, "EchoTime"),
            b_value,
            one(self.find(index, "CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"),
            (*types, text(self.find(index, "MRImageFrameTypeSequence"), "ComplexImageComponent")),
            one(self.find(index, "SegmentIdentificationSequence"), "ReferencedSegmentNumber"),
            one(content, "FrameAcquisitionNumber"),
            (text(content, "FrameAcquisitionDateTime"),),
            (text(content, "FrameReferenceDateTime"),),
        )
