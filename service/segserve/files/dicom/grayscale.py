"""From stored values to the values of the modality, and to what a viewer shows (PS3.3, C.11.1, C.11.2, C.7.6.3.1.2)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.types import UInt8

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LookupTable:
    """`LookupTable` maps values: the first of `entries` belongs to `first`; values beyond the ends map to the ends."""

    first: int
    entries: bytes
    bits: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    def apply(self, values: Values) -> Values:
        table = np.frombuffer(self.entries, "u1" if self.bits <= 8 else "<u2")
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(table) - 1)
        return table[index]

    @property
    def count(self) -> int:
        return len(self.entries) // (1 if self.bits <= 8 else 2)


@dataclass(frozen=True, slots=True)
class Shading:
    """`Shading` says what stored values mean and how a viewer shows them.

    slope, intercept, modality_table: the modality's values, such as Hounsfield units.
    center, width, function: the first window of interest; None without one.
    voi_table: shown instead of a window. is_inverted: MONOCHROME1, in which low values are bright.
    """

    slope: float = 1.0
    intercept: float = 0.0
    modality_table: LookupTable | None = None
    center: float | None = None
    width: float | None = None
    function: str = "LINEAR"
    voi_table: LookupTable | None = None
    is_inverted: bool = False

    @property
    def is_identity(self) -> bool:
        return self.slope == 1 and self.intercept == 0 and self.modality_table is None

    @property
    def has_whole_numbers(self) -> bool:
        return self.modality_table is not None or (self.slope.is_integer() and self.intercept.is_integer())

    @property
    def window(self) -> tuple[float, float] | None:
        """(low, high) of the modality's values that a viewer shows black and white, or None."""
        if self.voi_table is not None:
            return float(self.voi_table.first), float(self.voi_table.first + max(1, self.voi_table.count - 1))
        if self.center is None or self.width is None:
            return None
        if self.function == "LINEAR" and self.width > 1:  # PS3.3, C.11.2.1.2.1
            return self.center - 0.5 - (self.width - 1) / 2, self.center - 0.5 + (self.width - 1) / 2
        half = max(self.width, 1e-6) / 2
        return self.center - half, self.center + half

    def to_modality(self, stored: Values, dtype: np.dtype[Any] | type) -> Values:
        """Return the modality's values of stored ones, in `dtype`."""
        if self.modality_table is not None:
            return self.modality_table.apply(stored).astype(dtype, copy=False)
        if self.is_identity:
            return stored.astype(dtype, copy=False)
        exact = np.int64 if np.dtype(dtype).kind in "iu" else np.float64
        return (stored.astype(exact) * exact(self.slope) + exact(self.intercept)).astype(dtype)

    def modality_range(self, low: int, high: int) -> tuple[float, float]:
        """Return the range of the modality's values, given that of the stored ones."""
        if self.modality_table is not None:
            entries = np.frombuffer(
                self.modality_table.entries, "u1" if self.modality_table.bits <= 8 else "<u2"
            )
            return float(entries.min()), float(entries.max())
        ends = low * self.slope + self.intercept, high * self.slope + self.intercept
        return min(ends), max(ends)

    def to_shades(self, stored: Values, limits: tuple[float, float]) -> UInt8:
        """Return what a viewer shows, 8 bits. limits: values that become black and white without a window."""
        values = self.to_modality(stored, np.float64)
        if self.voi_table is not None:
            shown = self.voi_table.apply(values)
            shades = shown.astype(np.float64) * (255 / ((1 << self.voi_table.bits) - 1))
        elif self.function == "SIGMOID" and self.center is not None and self.width:
            shades = 255 / (1 + np.exp(-4 * (values - self.center) / self.width))
        else:
            low, high = self.window or limits
            shades = (values - low) * (255 / max(high - low, 1e-12))
        rounded: UInt8 = np.rint(np.clip(shades, 0, 255)).astype(np.uint8)
        return np.invert(rounded) if self.is_inverted else rounded
