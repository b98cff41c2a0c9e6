"""The comparison of a promptable bundle with the library that its checkpoint belongs to.

Both compute the same noise image and the same prompts; a bundle that is off by more than a tolerance is refused.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from segserve.models.bundle import Bundle
from segserve.models.importers.compare_arrays import check_error, error_over_max, error_over_std
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Float32

ENCODER_TOLERANCE = 1e-3  # largest error over the largest value; of scores, the largest error
DECODER_TOLERANCE = 1e-4  # largest error of the logits over their standard deviation; of maps, from 0 to 1
ALL_MASK_TOKENS = [0, 1, 2, 3]
MANY_POINTS = 20  # enough points for the decoder that does not fold
PADDING_POINT = (0.0, 0.0)
PADDING_LABEL = -1.0


class LibraryModel(Protocol):
    """The model's own library: how it encodes and decodes with a network that it has built."""

    def encode(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """Encode image [1, 3, S, S]. Returns the features by the bundle's names, batch axis kept."""

    def predict_ais_maps(self, network: Any, features: dict[str, Tensor]) -> Tensor | None:
        """Return the automatic decoder's maps [1, 3, h, h], or None where there is no such decoder."""

    def decode(
        self,
        network: Any,
        features: dict[str, Tensor],
        points: tuple[Tensor, Tensor] | None,
        box: Tensor | None,
        prior: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode one prompt into logits [4, 4g, 4g] and scores [4] of all mask tokens.

        points: coordinates [1, N, 2] in input pixels, and labels [1, N].
        box: [1, 4] in input pixels.
        prior: logits [1, 1, 4g, 4g].
        """


def compare_promptable(bundle: Bundle, library: LibraryModel, network: Any, *, slack: float = 1.0) -> None:
    """Run the bundle and the library's network on noise and on one prompt of each sort.

    slack: a factor on the tolerances. Raises BrokenModel, naming what differs by how much.
    """
    options = RuntimeOptions.for_trial()
    model = PromptableModel(bundle, options, options, options)
    generator = torch.Generator().manual_seed(0)
    size = model.manifest.preprocess.input_size
    image = torch.randn(1, 3, size, size, generator=generator)
    with torch.no_grad():
        features = library.encode(network, image)
    ours = model.encode(image.numpy())
    for name, expected in features.items():
        error = error_over_max(ours[name], expected[0].numpy())
        check_error(f"encoder's {name}", error, slack * ENCODER_TOLERANCE)
    with torch.no_grad():
        maps = library.predict_ais_maps(network, features)
    if maps is not None:
        our_maps = model.predict_ais_maps({name: value[0].numpy() for name, value in features.items()})
        error = float(np.abs(our_maps - maps[0].numpy()).max())
        check_error("automatic decoder", error, slack * DECODER_TOLERANCE)
    for what, points, box, prior in make_test_prompts(size, model.manifest.dims.low, generator):
        with torch.no_grad():
            expected, scores = library.decode(network, features, points, box, prior)
        coords, labels = as_tokens(points, box)
        prepared = model.prepare({k: v[0].numpy() for k, v in features.items()}, as_array(prior))
        logits, our_scores = model.decode(prepared, coords, labels, ALL_MASK_TOKENS)
        error = error_over_std(logits, expected.numpy())
        check_error(f"decoder ({what})", error, slack * DECODER_TOLERANCE)
        error = float(np.abs(our_scores - scores.numpy()).max())
        check_error(f"decoder's scores ({what})", error, slack * ENCODER_TOLERANCE)


# What the prompt is, points and labels, box, prior mask.
TestPrompt = tuple[str, tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]


def make_test_prompts(size: int, low: int, generator: torch.Generator) -> list[TestPrompt]:
    """Return one prompt of each sort. size: edge of the input, pixels. low: edge of the low-res logits."""

    def points(count: int) -> tuple[Tensor, Tensor]:
        coords = torch.rand(1, count, 2, generator=generator) * size
        return coords, torch.randint(0, 2, (1, count), generator=generator)

    box = torch.tensor([[0.2, 0.3, 0.7, 0.8]]) * size
    prior = torch.randn(1, 1, low, low, generator=generator)
    return [
        ("a point", points(1), None, None),
        ("a box", None, box, None),
        ("points and a box", points(3), box, None),
        ("many points", points(MANY_POINTS), None, None),
        ("a point and a prior mask", points(1), None, prior),
    ]


def as_tokens(points: tuple[Tensor, Tensor] | None, box: Tensor | None) -> tuple[Float32, Float32]:
    """Return coordinates [N, 2] and labels [N] in the order of both prompt encoders: points, then the box's
    corners, or a padding point where there is no box."""
    coords = [] if points is None else points[0][0].tolist()
    labels = [] if points is None else points[1][0].tolist()
    if box is not None:
        coords, labels = coords + box.reshape(2, 2).tolist(), [*labels, 2, 3]
    else:
        coords, labels = [*coords, PADDING_POINT], [*labels, PADDING_LABEL]
    return np.array(coords, np.float32), np.array(labels, np.float32)


def as_array(prior: Tensor | None) -> Float32 | None:
    return None if prior is None else prior[0, 0].numpy()
