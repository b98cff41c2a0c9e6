"""A network that sees the whole image at once: the image is stretched to its size, and its answer back."""

import cv2
import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.models.manifest import SemanticManifest
from segserve.models.semantic_manifest import SemanticInput
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.preprocess import prepare_input
from segserve.semantic.tta import Flips
from segserve.semantic.whole_image import run_on_whole_image, stretch_image
from segserve.types import Float32, Size

TILE = (64, 96)


@pytest.mark.parametrize("size", [(700, 300), (40, 50), (64, 96), (1, 1000)])
@pytest.mark.parametrize("flips", [Flips.NONE, Flips.BOTH])
def test_probabilities_are_stretched_back_as_opencv_does(size: tuple[int, int], flips: Flips) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen: list[Float32] = []

    def run(tiles: Float32) -> Float32:
        seen.append(tiles)
        return np.concatenate([tiles, 1 - tiles[:, :1]], axis=1)

    network_input = prepare_input(stretch_image(image, TILE), SemanticInput(channels=3))
    bands = [(top, band) for top, band in run_on_whole_image(network_input, run, Size(*size), flips)]
    assert {tiles.shape for tiles in seen} == {(1, 3, *TILE)}
    assert [top for top, _ in bands] == list(range(0, size[0], 256))
    answer = np.concatenate([band for _, band in bands], axis=1)
    small = run(network_input.read_tile(0, 0, *TILE)[None])[0]
    expected = cv2.resize(small.transpose(1, 2, 0), size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(answer, expected.transpose(2, 0, 1), atol=1e-5)


def test_an_image_of_any_size_is_one_run_and_the_tile_is_fixed() -> None:
    manifest = SemanticManifest(
        name="m", architecture="a", files={}, classes=("a",), tile=TILE, whole_image=True
    )
    assert check_options(SemanticOptions(), manifest, Size(20_000, 20_000)) == TILE
    with pytest.raises(BadInput, match="tiles of 64 x 96"):
        check_options(SemanticOptions(tile=(128, 128)), manifest, Size(100, 100))
