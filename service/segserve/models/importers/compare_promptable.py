"""Is an exported bundle the model that its library computes?"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segserve.errors import BrokenModel
from segserve.models.bundle import Bundle
from segserve.models.promptable_model import Model
from segserve.models.runtime import RuntimeOptions
from segserve.settings import count_cores
from segserve.types import Float32

if TYPE_CHECKING:
    from segserve.models.importers.family import Family

ENCODER_TOLERANCE = 1e-3  # largest error over the largest value
DECODER_TOLERANCE = 1e-4  # largest error of the logits over their standard deviation, of maps from 0 to 1
ALL_MASKS = [0, 1, 2, 3]
MANY = 20  # points, enough for the decoder that does not fold
PADDING = (0.0, 0.0), -1.0


def compare(bundle: Bundle, family: "Family", network: Any, *, slack: float = 1.0) -> None:
    """Run both on noise and on one prompt of each sort. slack: the tolerances are multiplied by it. Raises
    BrokenModel, naming what differs by how much."""
    options = RuntimeOptions(threads=count_cores())
    model = Model(bundle, options, options, options)
    generator = torch.Generator().manual_seed(0)
    size = model.manifest.preprocess.input_size
    image = torch.randn(1, 3, size, size, generator=generator)
    with torch.no_grad():
        features = family.encode(network, image)
    ours = model.encode(image.numpy())
    for name, expected in features.items():
        error = relative_to_largest(ours[name], expected[0].numpy())
        check(f"encoder's {name}", error, slack * ENCODER_TOLERANCE)
    with torch.no_grad():
        maps = family.maps(network, features)
    if maps is not None:
        found = model.maps({"embedding": features["embedding"][0].numpy()})
        check("automatic decoder", float(np.abs(found - maps[0].numpy()).max()), slack * DECODER_TOLERANCE)
    for what, points, box, prior in prompts(size, model.manifest.dims.low, generator):
        with torch.no_grad():
            expected, scores = family.decode(network, features, points, box, prior)
        coords, labels = as_tokens(points, box)
        prepared = model.prepare({k: v[0].numpy() for k, v in features.items()}, as_array(prior))
        logits, our_scores = model.decode(prepared, coords, labels, ALL_MASKS)
        check(f"decoder ({what})", relative_to_spread(logits, expected.numpy()), slack * DECODER_TOLERANCE)
        error = float(np.abs(our_scores - scores.numpy()).max())
        check(f"decoder's scores ({what})", error, slack * ENCODER_TOLERANCE)


Case = tuple[str, tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]


def prompts(size: int, low: int, generator: torch.Generator) -> list[Case]:
    def points(count: int) -> tuple[Tensor, Tensor]:
        coords = torch.rand(1, count, 2, generator=generator) * size
        return coords, torch.randint(0, 2, (1, count), generator=generator)

    box = torch.tensor([[0.2, 0.3, 0.7, 0.8]]) * size
    prior = torch.randn(1, 1, low, low, generator=generator)
    return [
        ("a point", points(1), None, None),
        ("a box", None, box, None),
        ("points and a box", points(3), box, None),
        ("many points", points(MANY), None, None),
        ("a point and a prior mask", points(1), None, prior),
    ]


def as_tokens(points: tuple[Tensor, Tensor] | None, box: Tensor | None) -> tuple[Float32, Float32]:
    """Coordinates [N, 2] and labels [N] as both prompt encoders order them: points, then the box's corners,
    or padding where there is no box."""
    coords = [] if points is None else points[0][0].tolist()
    labels = [] if points is None else points[1][0].tolist()
    if box is not None:
        coords, labels = coords + box.reshape(2, 2).tolist(), [*labels, 2, 3]
    else:
        coords, labels = [*coords, PADDING[0]], [*labels, PADDING[1]]
    return np.array(coords, np.float32), np.array(labels, np.float32)


def as_array(prior: Tensor | None) -> Float32 | None:
    return None if prior is None else prior[0, 0].numpy()


def relative_to_largest(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def relative_to_spread(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max() / expected.std())


def check(what: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:  # also where it is not a number
        raise BrokenModel(
            f"The exported {what} differs from the library's by {error:.1e}, more than {tolerance:.0e}.",
            remedy="The weights may not be finite; please report the checkpoint.",
        )
