"""Post-processing of class maps, class by class: morphology, then connected components by size.

`Postprocess` of the manifest names the steps.
"""

import numpy as np
from scipy import ndimage

from segserve.models.semantic_manifest import Postprocess
from segserve.semantic.morphology import apply_morphology
from segserve.types import Bool, UInt8

EIGHT_CONNECTED = np.ones((3, 3), np.bool_)  # pixels that touch at an edge or a corner are connected


def postprocess_class_map(classes: UInt8, options: Postprocess) -> UInt8:
    """Return the class map [H, W] after the steps of `options`.

    Pixels that a class loses become background. A class gains only background, never pixels of another class.
    Where two classes gain the same pixel, the first has it.
    """
    if options == Postprocess():
        return classes
    result = np.zeros_like(classes)
    for value in np.flatnonzero(np.bincount(classes.ravel())):
        if value:
            mask = classes == value
            grown = apply_morphology(mask, options) & (mask | ((classes == 0) & (result == 0)))
            result[filter_components(grown, options)] = value
    return result


def filter_components(mask: Bool, options: Postprocess) -> Bool:
    """Return the mask without the connected components that `min_size` or `keep_largest` remove.

    Of several components of the largest size, the first stays.
    """
    if not (options.min_size or options.keep_largest):
        return mask
    components, _ = ndimage.label(mask, EIGHT_CONNECTED)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    is_kept = areas >= max(1, options.min_size)
    if options.keep_largest:
        is_kept &= np.arange(len(areas)) == areas.argmax()
    kept: Bool = is_kept[components]
    return kept
