"""Other light, other focus, other orientation: what may change in an image while its mask stays true."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.types import Float32, UInt8

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # importing it would ask the network for a newer version
import albumentations as A

SCALES = (0.7, 1.4)


def colour_transforms() -> list[Any]:
    """Conservative: an object keeps its look to a human eye."""
    return [
        A.CLAHE(clip_limit=(1, 3), p=0.2),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(75, 135), p=0.3),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.01, 0.05))], p=0.3),
    ]


class ColourAugmentation:
    """An image [h, w, 3] float32 in 0..255 under other light. A `scenes.Recolour`."""

    def __init__(self) -> None:
        self.transform = A.Compose(colour_transforms())

    def __call__(self, image: Float32, rng: np.random.Generator) -> Float32:
        self.transform.set_random_seed(int(rng.integers(2**31)))
        changed: UInt8 = self.transform(image=np.rint(image).astype(np.uint8))["image"]
        return changed.astype(np.float32)


class WindowAugmentation:
    """A random window of an image and its mask, turned, mirrored, scaled and relit. Beyond the image's edge it is
    mirrored."""

    def __init__(self, size: int) -> None:
        self.transform = A.Compose(
            [
                A.RandomScale((SCALES[0] - 1, SCALES[1] - 1), p=0.7),
                A.PadIfNeeded(size, size, border_mode=4, position="random"),  # cv2.BORDER_REFLECT_101
                # Half of the windows hold an object: where objects are rare, most would be empty.
                A.OneOf([A.RandomCrop(size, size), A.CropNonEmptyMaskIfExists(size, size)], p=1.0),
                A.D4(p=1.0),
                *colour_transforms(),
            ]
        )

    def __call__(
        self, image: UInt8, mask: NDArray[Any], rng: np.random.Generator
    ) -> tuple[UInt8, NDArray[Any]]:
        """image [H, W, 3], mask [H, W] -> [size, size, 3] and [size, size]."""
        self.transform.set_random_seed(int(rng.integers(2**31)))
        found = self.transform(image=image, mask=mask)
        return found["image"], found["mask"]
