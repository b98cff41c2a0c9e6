"""Objects drawn over frames."""

from collections.abc import Sequence

import numpy as np

from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.rendering.result_index import ResultObject
from segserve.types import Size, UInt8

OUTLINE_PX = 2  # pixels


def draw_overlay(frame: UInt8, entries: Sequence[ResultObject]) -> UInt8:
    """The frame, RGB [H, W, 3], with each object filled faintly and outlined in the colour of its object_id. Raises
    BadInput where a mask is not of the frame's size."""
    return draw_objects(frame, number_objects(entries, Size(*frame.shape[:2])), entries)


def number_objects(entries: Sequence[ResultObject], size: Size) -> Labels:
    """The label map [H, W] of the objects by their places from 1: an object_id may be as large as it likes."""
    found = [(place, each["mask"]["counts"], each["area"]) for place, each in enumerate(entries, 1)]
    return label_map.from_rle(found, size, np.uint32)


def draw_objects(frame: UInt8, shown: Labels, entries: Sequence[ResultObject]) -> UInt8:
    """As `draw_overlay`, of a map that `number_objects` made of the entries, scaled as the frame is."""
    return label_map.draw_overlay(
        frame, shown, label_map.make_colour_table(each["object_id"] for each in entries), OUTLINE_PX
    )
