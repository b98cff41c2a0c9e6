"""The rewritten decoder equals the library's for every sort of prompt.

In float64 they agree to 11 digits, so no step is another function. In float32 both are as near to that as rounding
allows.
"""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from segserve.models.export.fast_decoder import FastDecoder, FinePreparation, ImagePreparation
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.importers.compare_promptable import as_tokens
from tests.models.networks import LibraryDecoder, sam2_decoder, sam_decoder
from tests.rounding import MASK_DECODER_ERROR, undecided

SMALL = (64, 16, 4, 128)  # channels, grid, heads, mlp
PUBLISHED = (256, 64, 8, 2048)
LIBRARY = LibraryDecoder()


def points(count: int, size: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(count)
    coords = torch.rand(1, count, 2, generator=generator) * size
    # Quarters of a pixel, because the library always rounds coordinates to float32.
    coords = (4 * coords).round() / 4
    return coords, torch.randint(0, 2, (1, count), generator=generator)


def make_prompt(name: str, size: int) -> tuple[Any, Any, Any]:
    """Return (points, box, prior mask)."""
    box = torch.tensor([[0.125, 0.25, 0.75, 0.875]]) * size
    prior = torch.randn(1, 1, size // 4, size // 4, generator=torch.Generator().manual_seed(7)) * 4
    return {
        "a point": (points(1, size), None, None),
        "points": (points(5, size), None, None),
        "more points than are folded": (points(30, size), None, None),
        "a box": (None, box, None),
        "points and a box": (points(3, size), box, None),
        "a prior mask": (points(1, size), None, prior),
        "a box and a prior mask": (None, box, prior),
    }[name]


PROMPT_NAMES = [
    "a point",
    "points",
    "more points than are folded",
    "a box",
    "points and a box",
    "a prior mask",
    "a box and a prior mask",
]


def make_features(channels: int, grid: int, high_res: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"embedding": (1, channels, grid, grid)}
    if high_res:
        shapes["high_res_0"] = (1, channels // 8, 4 * grid, 4 * grid)
        shapes["high_res_1"] = (1, channels // 4, 2 * grid, 2 * grid)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def prepare_fine(parts: tuple[Any, Any], features: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fine features as the fast decoder reads them; nothing for SAM."""
    high_res = [features[name] for name in FinePreparation.INPUTS if name in features]
    return FinePreparation(*parts)(*high_res) if high_res else ()


@torch.no_grad()
def run_fast_decoder(
    parts: tuple[Any, Any],
    features: dict[str, Any],
    prompt: tuple[Any, Any, Any],
    fold: bool,
    channels: list[int],
) -> tuple[Any, Any]:
    prompt_encoder, mask_decoder = parts
    points_and_labels, box, prior = prompt
    low = 4 * features["embedding"].shape[-1]
    prepared = ImagePreparation(prompt_encoder, mask_decoder)(
        features["embedding"],
        features["embedding"].new_zeros(1, 1, low, low) if prior is None else prior,
        torch.tensor([float(prior is not None)]),
    )
    coords, labels = (torch.from_numpy(array)[None] for array in as_tokens(points_and_labels, box))
    coords = coords.to(features["embedding"].dtype)
    decoder = FastDecoder(prompt_encoder, mask_decoder, fold).eval()
    return decoder(coords, labels, torch.tensor(channels), *prepared, *prepare_fine(parts, features))


def to_float64(parts: tuple[Any, Any], features: dict[str, Any], prompt: tuple[Any, Any, Any]) -> Any:
    """Return the same three, converted to compute in float64."""
    prompt_encoder, mask_decoder = (copy.deepcopy(part).double() for part in parts)
    positions = prompt_encoder.pe_layer
    encode = type(positions)._pe_encoding
    # The library itself converts them to float32.
    positions._pe_encoding = lambda coords: encode(positions, coords.double())
    points_and_labels, box, prior = prompt
    features = {name: feature.double() for name, feature in features.items()}
    return (
        (prompt_encoder, mask_decoder),
        features,
        (points_and_labels, box, None if prior is None else prior.double()),
    )


@torch.no_grad()
def assert_equals_the_library(
    parts: tuple[Any, Any], features: dict[str, Any], prompt: tuple[Any, Any, Any], fold: bool
) -> None:
    exact_parts, exact_features, exact_prompt = to_float64(parts, features, prompt)
    exact, exact_scores = LIBRARY.decode(exact_parts, exact_features, *exact_prompt)
    ours, our_scores = run_fast_decoder(exact_parts, exact_features, exact_prompt, fold, [0, 1, 2, 3])
    assert exact.dtype == ours.dtype == torch.float64
    assert error_over_std(ours.numpy(), exact.numpy()) < 1e-11
    assert float((our_scores - exact_scores).abs().max()) < 1e-11
    library = LIBRARY.decode(parts, features, *prompt)
    for masks, scores in (library, run_fast_decoder(parts, features, prompt, fold, [0, 1, 2, 3])):
        assert error_over_std(masks.numpy(), exact.numpy()) < MASK_DECODER_ERROR
        assert float((scores - exact_scores).abs().max()) < MASK_DECODER_ERROR * float(
            exact_scores.abs().max()
        )
        error = MASK_DECODER_ERROR * float(exact.std())
        assert not (((masks > 0) != (exact > 0)).numpy() & ~undecided(exact.numpy(), error)).any()


@pytest.fixture(scope="module", params=["sam", "sam2"])
def small(request: pytest.FixtureRequest) -> tuple[tuple[Any, Any], dict[str, Any]]:
    torch.manual_seed(0)
    make = {"sam": sam_decoder, "sam2": sam2_decoder}[request.param]
    return make(*SMALL), make_features(SMALL[0], SMALL[1], high_res=request.param == "sam2")


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("name", PROMPT_NAMES)
def test_equals_the_library(small: Any, name: str, fold: bool) -> None:
    parts, features = small
    assert_equals_the_library(parts, features, make_prompt(name, SMALL[1] * 16), fold)


@pytest.mark.parametrize("channels", [[0], [1], [1, 2, 3], [3, 0]])
def test_computes_only_the_requested_masks(small: Any, channels: list[int]) -> None:
    parts, features = small
    prompt = make_prompt("points and a box", SMALL[1] * 16)
    all_masks, all_scores = run_fast_decoder(parts, features, prompt, True, [0, 1, 2, 3])
    masks, scores = run_fast_decoder(parts, features, prompt, True, channels)
    assert masks.shape[0] == len(channels)
    error = 2 * MASK_DECODER_ERROR  # the errors of both sides
    assert error_over_std(masks.numpy(), all_masks[channels].numpy()) < error
    # The scores are always those of all four masks.
    assert float((scores - all_scores).abs().max()) < error * float(all_scores.abs().max())


def test_a_prior_mask_alone_is_a_prompt(small: Any) -> None:
    prompt = (None, None, make_prompt("a prior mask", SMALL[1] * 16)[2])
    parts, features, (*_, prior) = to_float64(*small, prompt)
    prompt_encoder, mask_decoder = parts
    with torch.no_grad():
        exact, _ = LIBRARY.decode(parts, features, None, None, prior)
        prepared = ImagePreparation(prompt_encoder, mask_decoder)(features["embedding"], prior, torch.ones(1))
        prepared = (*prepared, *prepare_fine(parts, features))
        masks, _ = FastDecoder(prompt_encoder, mask_decoder, True)(
            torch.zeros(1, 0, 2).double(), torch.zeros(1, 0), torch.arange(4), *prepared
        )
    assert error_over_std(masks.numpy(), exact.numpy()) < 1e-11


@pytest.mark.parametrize("make", [sam_decoder, sam2_decoder])
@pytest.mark.parametrize("name", ["a point", "points and a box", "more points than are folded"])
def test_equals_the_library_at_the_published_size(make: Any, name: str) -> None:
    torch.manual_seed(1)
    parts = make(*PUBLISHED)
    features = make_features(PUBLISHED[0], PUBLISHED[1], high_res=make is sam2_decoder)
    assert_equals_the_library(
        parts, features, make_prompt(name, 1024), fold=name != "more points than are folded"
    )
