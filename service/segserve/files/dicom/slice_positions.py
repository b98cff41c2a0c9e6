"""Where the slices of a volume are: whether their positions are unique and evenly spaced, or what is missing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.files.volume_geometry import VolumeGeometry

Float = NDArray[np.float64]

# Slices count as evenly spaced if none is further from its place than this, in mm or as part of the spacing.
EVEN_MM, EVEN_PART = 0.01, 0.01
# Positions are the same if they differ by no more, in mm or as part of the largest gap: those of a scan that was
# repeated differ by their last digits.
SAME_PLACE_MM, SAME_PLACE_PART = 0.02, 0.02
# Up to here they are read as even, and it is told: positions that were rounded to 0.1 mm.
ROUNDED_MM, ROUNDED_PART = 0.06, 0.12
# A position counts as missing if the gap is a whole number of spacings, to this part of one.
GAP_PART = 0.1
# Sideways, as part of a pixel.
SIDEWAYS_PART = 0.1
MAX_NAMED_POSITIONS = 6


class UnevenSlices(Exception):
    """The slices are no grid. Its text is a sentence that says what was found."""


@dataclass(frozen=True)
class SlicePlaces:
    """`SlicePlaces` are places of slices: along the normal, sorted, and the number of the place of each frame."""

    along: Float
    places: NDArray[np.intp]


def slice_normal(orientation: Sequence[float]) -> Float:
    return np.cross(orientation[:3], orientation[3:])


def find_places(positions: Float, normal: Float) -> SlicePlaces:
    """Return which frames are at one place. positions: [N, 3], mm."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    largest_gap = float(np.diff(along[order]).max(initial=0.0))
    tolerance = max(1e-6, min(SAME_PLACE_MM, SAME_PLACE_PART * largest_gap))
    is_new = np.diff(along[order], prepend=-np.inf) > tolerance
    numbers = np.cumsum(is_new) - 1
    places = np.empty(len(along), np.intp)
    places[order] = numbers
    return SlicePlaces(along[order][is_new], places)


def build_geometry(
    positions: Float,
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    slice_spacing: float | None,
    size: tuple[int, int],
) -> tuple[VolumeGeometry, list[str]]:
    """Return the geometry of slices, and notes on what is unusual about it.

    positions: [N, 3] of the slices, mm, sorted along the normal or against it. orientation: direction cosines of a row
    and of a column. pixel_spacing: from row to row, from column to column. slice_spacing: taken for a single slice.
    size: rows, columns.

    A gantry that was tilted shifts each slice against the one before: the direction from slice to slice is then not
    the normal, and the grid is sheared. Raises UnevenSlices.
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal, notes = np.cross(row, column), list[str]()
    normal /= np.linalg.norm(normal)
    direction, spacing = normal, slice_spacing or 1.0
    if len(positions) > 1:
        step = (positions[-1] - positions[0]) / (len(positions) - 1)
        if step @ normal < 0:
            normal = direction = -normal
        check_even(positions @ normal, notes)
        expected = positions[0] + np.arange(len(positions))[:, None] * step
        sideways = np.abs((positions - expected) @ np.stack([row, column], 1)).max(0)
        if (sideways > np.maximum(SIDEWAYS_PART * np.array(pixel_spacing[::-1]), EVEN_MM)).any():
            raise UnevenSlices(
                f"The slices are shifted sideways against each other, by up to {sideways.max():.3g} mm."
            )
        rise = float(step @ normal)
        shift = step - rise * normal
        spacing = rise
        if np.linalg.norm(shift) * (len(positions) - 1) > SIDEWAYS_PART * min(pixel_spacing):
            degrees = math.degrees(math.atan2(float(np.linalg.norm(shift)), rise))
            spacing = float(np.linalg.norm(step))
            direction = step / spacing
            notes.append(
                f"The slices are tilted by {degrees:.3g} degrees: the volume's axes are not at right angles."
            )
    elif slice_spacing is None:
        notes.append("There is one slice, and its thickness is not stated: 1 mm is taken.")
    x, y, z = positions[0].tolist()
    matrix = np.stack([row, column, direction], 1)
    geometry = VolumeGeometry(
        (size[1], size[0], len(positions)),
        (pixel_spacing[1], pixel_spacing[0], spacing),
        (x, y, z),
        tuple(matrix.ravel().tolist()),
    )
    return geometry, notes


def check_even(along: Float, notes: list[str]) -> None:
    """Check that slices are evenly spaced. along: sorted, mm. Adds a note where they are only nearly so.

    Raises UnevenSlices, which names the positions that are missing.
    """
    count = len(along)
    spacing = (along[-1] - along[0]) / (count - 1)
    numbers = np.arange(count)
    off = float(np.abs(along - np.polyval(np.polyfit(numbers, along, 1), numbers)).max())
    if off <= max(EVEN_MM, EVEN_PART * spacing) and off <= ROUNDED_PART * spacing:
        return
    if off <= min(ROUNDED_MM, ROUNDED_PART * spacing):
        notes.append(
            f"The slices are up to {off:.3g} mm from even places, {spacing:.4g} mm apart: rounded positions."
        )
        return
    gaps = np.diff(along)
    for unit in (float(np.median(gaps)), float(gaps.min())):
        steps = gaps / unit
        if np.abs(steps - np.rint(steps)).max() <= GAP_PART and np.rint(steps).min() >= 1:
            raise UnevenSlices(name_missing(along, unit, np.rint(steps).astype(int)))
    raise UnevenSlices(
        f"The {count} slices are not evenly spaced: from {gaps.min():.4g} to {gaps.max():.4g} mm apart."
    )


def name_missing(along: Float, unit: float, steps: NDArray[Any]) -> str:
    missing = [
        along[index] + unit * number
        for index in np.flatnonzero(steps > 1)
        for number in range(1, steps[index])
    ]
    named = ", ".join(f"{position:.2f}" for position in missing[:MAX_NAMED_POSITIONS])
    more = f" and {len(missing) - MAX_NAMED_POSITIONS} more" if len(missing) > MAX_NAMED_POSITIONS else ""
    first = int(np.flatnonzero(steps > 1)[0])
    verb = "slice is" if len(missing) == 1 else "slices are"
    return (
        f"{len(missing)} {verb} missing between {along[0]:.2f} and {along[-1]:.2f} mm, where slices are {unit:.4g} mm"
        f" apart: at {named}{more} mm along the normal. The first gap is after slice {first + 1} of {len(along)}."
    )
