"""Model inputs against what the models' own packages compute."""

import numpy as np
import pytest
import torch
from sam2.utils.transforms import SAM2Transforms
from segment_anything.utils.transforms import ResizeLongestSide

from segserve.encode.preprocess import preprocess_image
from segserve.types import Float32, Preprocess, UInt8

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZES = [(1, 1), (64, 64), (200, 300), (301, 199), (256, 256), (37, 500), (640, 480)]
RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> UInt8:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def sam(image: UInt8, size: int) -> Float32:
    """SamPredictor.set_image up to the encoder: apply_image, then Sam.preprocess."""
    resized = torch.as_tensor(ResizeLongestSide(size).apply_image(image)).permute(2, 0, 1)[None]
    x = (resized - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
    padded = torch.nn.functional.pad(x, (0, size - x.shape[-1], 0, size - x.shape[-2]))
    return np.asarray(padded.numpy())


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [256, 512])
def test_pad_is_sam_to_the_bit(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    result = preprocess_image(image, Preprocess(size, MEAN, STD, "pad"))
    assert result.dtype == np.float32
    assert np.array_equal(result, sam(image, size))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [256, 512])
def test_stretch_is_sam2(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    transforms = SAM2Transforms(resolution=size, mask_threshold=0)
    mean = tuple(255 * value for value in transforms.mean)
    std = tuple(255 * value for value in transforms.std)
    result = preprocess_image(image, Preprocess(size, mean, std, "stretch"))  # type: ignore[arg-type]
    assert result.dtype == np.float32
    assert result.shape == (1, 3, size, size)
    assert np.abs(result[0] - transforms(image).numpy()).max() < 1e-5


def stretch(image: UInt8, low: float, high: float) -> Float32:
    """As written for training."""
    lowest, highest = np.percentile(image, (low, high))
    scaled = (image.astype(np.float32) - lowest) * (255.0 / max(highest - lowest, 1.0))
    return np.clip(np.rint(scaled), 0, 255).astype(np.float32)


@pytest.mark.parametrize("percentiles", [(1.0, 99.9), (0.0, 100.0), (10.0, 60.0)])
@pytest.mark.parametrize("scale", [1, 3, 255])
def test_percentiles_of_the_resized_image(percentiles: tuple[float, float], scale: int) -> None:
    image = noise(96, 128) // scale
    result = preprocess_image(image, Preprocess(128, (0.0,) * 3, (1.0,) * 3, "pad", percentiles))  # type: ignore[arg-type]
    assert np.array_equal(result[0, :, :96].transpose(1, 2, 0), stretch(image, *percentiles))
    assert not result[0, :, 96:].any()


def test_percentiles_come_after_resizing() -> None:
    image = noise(300, 200)
    resized = ResizeLongestSide(64).apply_image(image)
    result = preprocess_image(image, Preprocess(64, MEAN, STD, "pad", (1.0, 99.9)))[
        0, :, :, : resized.shape[1]
    ]
    expected = (stretch(resized, 1.0, 99.9) - np.float32(MEAN)) / np.float32(STD)
    assert np.array_equal(result.transpose(1, 2, 0), expected)


def test_percentiles_of_a_stretched_square() -> None:
    image = noise(64, 64)
    result = preprocess_image(image, Preprocess(64, (0.0,) * 3, (1.0,) * 3, "stretch", (1.0, 99.0)))  # type: ignore[arg-type]
    assert np.array_equal(result[0].transpose(1, 2, 0), stretch(image, 1.0, 99.0))


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_very_narrow_images_keep_a_pixel(shape: tuple[int, int]) -> None:
    result = preprocess_image(
        np.full((*shape, 3), 255, np.uint8), Preprocess(64, (0.0,) * 3, (1.0,) * 3, "pad")
    )  # type: ignore[arg-type]
    assert (result > 0).sum() == 3 * 64
