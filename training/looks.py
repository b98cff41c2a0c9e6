"""Looks: how the same objects appear under other stains, light, microscopes and cameras. Strong augmentation."""

import cv2
import numpy as np
from numpy.typing import NDArray

from nuclei import STRETCH_PERCENTILES
from scenes import draw_texture
from segserve.train.scenes import stretch_contrast

# Optical densities of haematoxylin and eosin in red, green and blue (Ruifrok and Johnston, 2001).
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
STAIN_SPREAD = 0.06  # standard deviation of these, from laboratory to laboratory
STAINED, PHASE_CONTRAST, BRIGHT_FIELD = 0.1, 0.05, 0.05  # probabilities; the others keep their look
DIMMED, UNEVEN = 0.2, 0.15  # probabilities

Image = NDArray[np.float32]
Labels = NDArray[np.int32]


def change_look(image: Image, labels: Labels, rng: np.random.Generator) -> Image:
    """Return an image [h, w, 3] float32 in 0..255 as another stain, light or camera would show it. A `Recolour`.

    labels: [h, w] int32, the objects; 0 is background.
    """
    drawn = rng.random()
    if drawn < STAINED:
        image = stretch(stain(image, labels, rng))
    elif drawn < STAINED + PHASE_CONTRAST:
        image = stretch(show_phase_contrast(labels, rng))
    elif drawn < STAINED + PHASE_CONTRAST + BRIGHT_FIELD:
        image = stretch(show_bright_field(labels, rng))
    elif rng.random() < DIMMED:
        image = dim_some(image, labels, rng)
    if rng.random() < UNEVEN:
        image = light_unevenly(image, rng)
    return recolour(image, rng)


def stretch(image: Image) -> Image:
    """Stretch the contrast, as the service does before the model sees an image."""
    clipped = np.clip(image, 0, 255).astype(np.uint8)
    return stretch_contrast(clipped, STRETCH_PERCENTILES).astype(np.float32)


def vary_by_object(labels: Labels, spread: float, rng: np.random.Generator) -> Image:
    """Return [h, w], a factor around 1 for each object. spread: standard deviation of its logarithm."""
    factors = np.exp(rng.normal(0, spread, int(labels.max()) + 1)).astype(np.float32)
    return factors[labels]


def stain(image: Image, labels: Labels, rng: np.random.Generator) -> Image:
    """Return a section stained with haematoxylin and eosin, its nuclei where the objects are.

    Stains darken light by their optical density: amounts add, and light is multiplied.
    """
    height, width = labels.shape
    inside = (labels > 0).astype(np.float32)
    soft = cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.6, 1.8))
    grey = image.mean(-1)
    texture = (grey - cv2.GaussianBlur(grey, (0, 0), 8)) / 40
    chromatin = 1 + np.clip(rng.uniform(-0.4, 0.4) * texture, -0.5, 0.5)
    blue = soft * rng.uniform(0.7, 1.7) * vary_by_object(labels, 0.25, rng) * chromatin
    blue += rng.uniform(0.02, 0.25) * (1 + 0.5 * draw_texture(rng, height, width)) * (1 - soft)
    fibres = draw_texture(rng, height, width) + draw_texture(rng, height, width)
    pink = rng.uniform(0.15, 0.9) * (1 + 0.35 * fibres) * (1 - rng.uniform(0.2, 0.8) * soft)
    gaps = (draw_texture(rng, height, width) > rng.uniform(1.0, 2.5)) & (labels == 0)
    amounts = np.stack([blue, pink], -1).clip(0) * ~gaps[..., None]
    stains = np.array([HAEMATOXYLIN, EOSIN]) + rng.normal(0, STAIN_SPREAD, (2, 3))
    stains = stains.clip(0.02) / np.linalg.norm(stains, axis=1, keepdims=True)
    stained: Image = (rng.uniform(225, 255) * np.exp(-rng.uniform(1.0, 1.6) * amounts @ stains)).astype(
        np.float32
    )
    return stained


def show_phase_contrast(labels: Labels, rng: np.random.Generator) -> Image:
    """Return the objects with a halo, about as bright as their ground, as phase contrast shows them."""
    inside = (labels > 0).astype(np.float32) * vary_by_object(labels, 0.3, rng)
    halo = cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.7, 1.5)) - cv2.GaussianBlur(
        inside, (0, 0), rng.uniform(4, 14)
    )
    ground = rng.uniform(3, 14) * draw_texture(rng, *labels.shape)
    grain = rng.uniform(0, 20) * draw_texture(rng, *labels.shape) * inside
    grey = 125 + ground + grain + rng.choice([-1, 1]) * rng.uniform(40, 130) * halo
    return np.repeat(grey[..., None], 3, -1).astype(np.float32)


def show_bright_field(labels: Labels, rng: np.random.Generator) -> Image:
    """Return the objects nearly as bright as their ground, with dark or bright outlines, as bright field shows them."""
    soft = cv2.GaussianBlur((labels > 0).astype(np.float32), (0, 0), 1.0)
    outline = sum(np.abs(np.gradient(soft, axis=axis)) for axis in (0, 1))
    for other in (
        labels != np.roll(labels, 1, 0),
        labels != np.roll(labels, 1, 1),
    ):  # between touching objects
        outline = np.maximum(outline, 0.5 * cv2.GaussianBlur(other.astype(np.float32), (0, 0), 0.8))
    grey = rng.uniform(120, 200) + rng.uniform(2, 12) * draw_texture(rng, *labels.shape)
    grey = grey + rng.uniform(-15, 15) * soft * vary_by_object(labels, 0.4, rng)
    grey = grey + rng.choice([-1, -1, 1]) * rng.uniform(60, 200) * outline
    tint = rng.uniform(0.85, 1, 3)
    return (grey[..., None] * tint).astype(np.float32)


def dim_some(image: Image, labels: Labels, rng: np.random.Generator) -> Image:
    """Bring the colour of some objects near that of the ground, so that they are dim among bright ones."""
    share, left = rng.uniform(0.1, 0.6), rng.uniform(0.12, 0.6)
    is_dim = rng.random(int(labels.max()) + 1) < share
    is_dim[0] = False
    ground = image[labels == 0]
    if not len(ground):
        return image
    amount = cv2.GaussianBlur(is_dim[labels].astype(np.float32), (0, 0), 1.0)[..., None] * (1 - left)
    return (image + amount * (np.median(ground, axis=0) - image)).astype(np.float32)


def light_unevenly(image: Image, rng: np.random.Generator) -> Image:
    """Multiply the light by a smooth field, as lamps and lenses do."""
    field = cv2.resize(
        rng.uniform(-1, 1, (3, 3)).astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    return np.clip(image * np.exp(rng.uniform(0.1, 0.6) * field)[..., None], 0, 255)


def recolour(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change an image [h, w, 3] float32 in 0..255 as another light, stain or camera would. Strong augmentation."""
    if rng.random() < 0.3:
        image = 255 - image
    if rng.random() < 0.5:
        image = 255 * (image / 255) ** np.exp(rng.normal(0, 0.35)).astype(np.float32)
    if rng.random() < 0.3:
        image = image * rng.uniform(0.6, 1, 3).astype(np.float32) + rng.uniform(-25, 25, 3).astype(np.float32)
    if rng.random() < 0.2:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    if rng.random() < 0.4:
        image = (image - 127) * np.float32(rng.uniform(0.4, 1.2)) + 127 + np.float32(rng.uniform(-30, 30))
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(2, 14), image.shape).astype(np.float32)
    return np.clip(image, 0, 255)
