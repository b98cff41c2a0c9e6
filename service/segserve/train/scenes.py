"""Scenes: labelled images prepared for training a promptable model, with the target maps of automatic segmentation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.train.dataset_folder import LabelledImage
from segserve.types import Preprocess, UInt8


@dataclass(frozen=True)
class Scene:
    """A labelled image, prepared for training.

    image: [h, w, 3] uint8, its contrast stretched where the model wants it.
    labels: [h, w] int32, 0 is background.
    distances: [h, w, 2] uint8, the distance to the object's centre and the inverted distance to its boundary. Each is
    0 in the middle of an object, 255 at its edge and outside.
    """

    name: str
    image: UInt8
    labels: NDArray[np.int32]
    distances: UInt8


def stretch_contrast(image: UInt8, percentiles: tuple[float, float]) -> UInt8:
    """Map two percentiles of an image [H, W, 3], over all channels together, to 0 and 255."""
    low, high = np.percentile(image, percentiles)
    scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
    stretched: UInt8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return stretched


def compute_distance_maps(labels: NDArray[np.int32]) -> UInt8:
    """Return the distance maps [h, w, 2] of a label map [h, w], as micro-sam trains on.

    They are the distance to the object's centre, and one minus the distance to its boundary, both divided by the
    object's largest.
    """
    maps = np.full((*labels.shape, 2), 255, np.uint8)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        mask = labels[window] == index
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        ys, xs = np.nonzero(mask)
        cy, cx = ys.mean(), xs.mean()
        if not mask[round(cy), round(cx)]:
            cy, cx = np.unravel_index(depth.argmax(), depth.shape)
        away = np.hypot(ys - cy, xs - cx)
        inside = np.stack([away / max(away.max(), 1e-6), 1 - depth[ys, xs] / depth.max()], axis=-1)
        maps[window][ys, xs] = np.rint(255 * inside)
    return maps


def build_scene(labelled: LabelledImage, preprocess: Preprocess) -> Scene:
    """Prepare a labelled image whose mask's values are objects. They are numbered anew, from 1."""
    percentiles = preprocess.stretch_percentiles
    image = labelled.image if percentiles is None else stretch_contrast(labelled.image, percentiles)
    labels = np.searchsorted(np.unique(np.append(labelled.mask, 0)), labelled.mask).astype(np.int32)
    return Scene(labelled.name, image, labels, compute_distance_maps(labels))


def input_scale(height: int, width: int, preprocess: Preprocess) -> NDArray[np.float64]:
    """Return the model-input pixels per image pixel, (x, y)."""
    if preprocess.resize == "pad":
        return np.full(2, preprocess.input_size / max(height, width))
    return preprocess.input_size / np.array([width, height])
