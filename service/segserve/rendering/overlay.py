"""Overlays: objects drawn over a frame, filled faintly and outlined."""

from collections.abc import Sequence

import numpy as np

from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.rendering.result_index import ResultObject
from segserve.types import Size, UInt8

OUTLINE_PX = 2  # visible after a video is scaled down


def draw_objects(frame: UInt8, objects: Sequence[ResultObject]) -> UInt8:
    """Return the frame, RGB [H, W, 3], with each object filled faintly and outlined in the colour of its object_id.

    Raises BadInput if a mask is not of the frame's size.
    """
    return draw_numbered_objects(frame, number_objects(objects, Size(*frame.shape[:2])), objects)


def number_objects(objects: Sequence[ResultObject], size: Size) -> Labels:
    """Return the label map [H, W] of the objects, numbered from 1 by their position.

    The object_ids themselves may be too large for a label map.
    """
    numbered = [(number, item["mask"]["counts"], item["area"]) for number, item in enumerate(objects, 1)]
    return label_map.from_rle(numbered, size, np.uint32)


def draw_numbered_objects(frame: UInt8, numbers: Labels, objects: Sequence[ResultObject]) -> UInt8:
    """As `draw_objects`, from the map that `number_objects` returned, scaled to the size of the frame."""
    colours = label_map.make_colour_table(item["object_id"] for item in objects)
    return label_map.draw_overlay(frame, numbers, colours, OUTLINE_PX)
