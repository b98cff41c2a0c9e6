"""Read how far the voxels of a stack are apart, as ImageJ and OME write it into a TIFF."""

import html
import re
from typing import BinaryIO

from tifffile import TiffPage

from segserve.images.tiff.reader import find_ome_pixels, read_first_directory

# The longest description that is searched: OME-XML lists every page, after the sizes.
MAX_DESCRIPTION_CHARS = 1 << 20
# Shorter than an atom, longer than a kilometre: such a number is an error, and no file format takes its reciprocal.
MIN_SPACING_MM, MAX_SPACING_MM = 1e-9, 1e6
# Millimetres of the units that ImageJ and OME write.
MILLIMETRES = {
    "nm": 1e-6,
    "nanometer": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "inch": 25.4,
}


def read_stack_spacing(stream: BinaryIO) -> tuple[float, float, float] | None:
    """Return millimetres from page to page, row to row and column to column; None where the file does not say them all.

    The pages must be slices: those of a time-lapse are not apart in space. Raises BadInput, TooLarge.
    """
    first, pages = read_first_directory(stream)
    description = str(first.description)[:MAX_DESCRIPTION_CHARS]
    if description.startswith("ImageJ="):
        spacing = read_imagej_spacing(description, first, pages)
    else:
        spacing = read_ome_spacing(description, pages)
    if spacing is None or not all(MIN_SPACING_MM <= length <= MAX_SPACING_MM for length in spacing):
        return None
    return spacing


def read_imagej_spacing(description: str, first: TiffPage, pages: int) -> tuple[float, float, float] | None:
    """The pixels of a unit are in the resolution tags. ImageJ leaves out a distance of slices of 1."""
    lines = (line.partition("=") for line in description.splitlines())
    entries = {name.strip(): value.strip() for name, _, value in lines}
    name = entries.get("unit", "")
    # Written where an axis has a unit of its own.
    if any(entries.get(axis, name) != name for axis in ("yunit", "zunit")):
        return None
    unit = MILLIMETRES.get(read_unit(name))
    if unit is None or entries.get("slices") != str(pages):
        return None
    columns, rows = read_resolution(first, "XResolution"), read_resolution(first, "YResolution")
    distance = read_number(entries.get("spacing", "1"))
    if columns is None or rows is None or distance is None:
        return None
    return abs(distance) * unit, unit / rows, unit / columns


def read_ome_spacing(description: str, pages: int) -> tuple[float, float, float] | None:
    """The sizes are attributes of OME's `Pixels`, in micrometres where they name no unit."""
    pixels = find_ome_pixels(description)
    if pixels is None:
        return None
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', pixels))
    if attributes.get("SizeZ") != str(pages):
        return None
    lengths = list[float]()
    for axis in "ZYX":
        length = read_number(attributes.get(f"PhysicalSize{axis}", ""))
        unit = MILLIMETRES.get(read_unit(html.unescape(attributes.get(f"PhysicalSize{axis}Unit", "µm"))))
        if length is None or unit is None:
            return None
        lengths.append(length * unit)
    z, y, x = lengths
    return z, y, x


def read_unit(text: str) -> str:
    """Return the unit with the letter that ImageJ writes as an escape."""
    return text.replace("\\u00B5", "µ").replace("\\u03BC", "µ")


def read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read_resolution(page: TiffPage, name: str) -> float | None:
    """Return the pixels a unit; None where the tag is missing or no number above 0."""
    tag = page.tags.get(name)
    try:
        numerator, denominator = tag.value
        value = float(numerator) / float(denominator)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None
