"""Views: at what scale training shows what. The service's pictures may be crops round one nucleus or whole slides."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from nuclei import STRETCH_PERCENTILES
from segserve.train.promptable_dataset import ScenePicker
from segserve.train.random_window import random_turn, random_view
from segserve.train.scenes import Scene, input_scale, stretch_contrast
from segserve.types import Preprocess

OBJECT_VIEW_SHARE = 0.4  # of the windows; the others show scenes at about the scale of their pictures
MIN_DIAMETER_PX = 8.0  # of an object in such a view, input pixels
MAX_DIAMETER_SHARE = 1.1  # of the window's edge
MAX_ENLARGEMENT = 8.0  # of the picture's pixels: enlarged more, there is only blur
CROPPED_SHARE = 0.5  # of the whole pictures, crops round an object
MIN_MARGIN_PX, MAX_MARGIN_PX = 2.0, 250.0  # of a crop, round its object


def mixed_view(
    scene: Scene, size: int, preprocess: Preprocess, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a view at about the picture's scale, or one of an object at any scale. It is a `View`."""
    view = object_view if scene.labels.any() and rng.random() < OBJECT_VIEW_SHARE else random_view
    return view(scene, size, preprocess, rng)


def object_view(
    scene: Scene, size: int, preprocess: Preprocess, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a view that shows a random object anywhere in the window, from 8 pixels to larger than the window."""
    ys, xs = np.nonzero(scene.labels)
    pick = rng.integers(len(ys))
    area = np.count_nonzero(scene.labels == scene.labels[ys[pick], xs[pick]])
    diameter = np.exp(rng.uniform(np.log(MIN_DIAMETER_PX), np.log(MAX_DIAMETER_SHARE * size)))
    scale = min(diameter / np.sqrt(area), MAX_ENLARGEMENT)
    linear = random_turn(rng) * scale
    centre = np.array([xs[pick], ys[pick]]) + rng.uniform(-0.35, 0.35, 2) * size / scale
    image_size = np.array(scene.labels.shape[::-1])
    nearest = np.minimum(size / 2 / scale, image_size / 2)
    centre = np.clip(centre, nearest, image_size - nearest)
    return np.hstack([linear, (size / 2 - linear @ centre)[:, None]])


def whole_view(
    scene: Scene, size: int, preprocess: Preprocess, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the view of a whole scene as the service shows it: from the top left corner, the rest is padding."""
    height, width = scene.labels.shape
    linear = random_turn(rng, quarters_only=True) * input_scale(height, width, preprocess)
    corners = linear @ np.array([[0, width, 0, width], [0, 0, height, height]])
    return np.hstack([linear, -corners.min(1, keepdims=True)])


class CropPicker:
    """`CropPicker` picks whole scenes and crops round an object of a scene. It is a `ScenePicker`."""

    def __init__(self, pick: ScenePicker) -> None:
        self.pick = pick

    def __call__(self, rng: np.random.Generator) -> Scene:
        scene = self.pick(rng)
        return crop_scene(scene, rng) if scene.labels.any() and rng.random() < CROPPED_SHARE else scene


def crop_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the part of a scene round a random object. Its contrast is stretched anew, as the service does it."""
    ys, xs = np.nonzero(scene.labels)
    pick = rng.integers(len(ys))
    mask = scene.labels == scene.labels[ys[pick], xs[pick]]
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    margins = np.exp(rng.uniform(np.log(MIN_MARGIN_PX), np.log(MAX_MARGIN_PX))) * rng.uniform(0.4, 1.6, 4)
    x0, y0 = max(0, round(left - margins[0])), max(0, round(top - margins[1]))
    part = np.s_[y0 : round(top + height + margins[2]), x0 : round(left + width + margins[3])]
    return replace(
        scene,
        image=stretch_contrast(np.ascontiguousarray(scene.image[part]), STRETCH_PERCENTILES),
        labels=scene.labels[part],
        distances=np.ascontiguousarray(scene.distances[part]),
    )
