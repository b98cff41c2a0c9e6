"""The bounds that other tests use: correct code stays within them, and code that is a little wrong does not."""

import copy
from typing import Any

import numpy as np
import pytest

from tests.rounding import MASK_DECODER_ERROR, UNIT, bilinear, bilinear_error, network_error

torch: Any = pytest.importorskip("torch")
F: Any = torch.nn.functional

SIZES = [(480, 640), (37, 61), (1333, 800), (100, 1)]


def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 4, (height, width)).astype(np.float32)


def resized(values: Any, height: int, width: int) -> Any:
    return F.interpolate(values[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", [(64, 64), (300, 200)])
def test_torch_is_within_the_bound_of_an_interpolation(
    source: tuple[int, int], size: tuple[int, int]
) -> None:
    values = noise(*source)
    exact = bilinear(values, *size)
    assert np.allclose(exact, resized(torch.from_numpy(values).double(), *size), atol=1e-12, rtol=0)
    assert np.abs(resized(torch.from_numpy(values), *size).numpy() - exact).max() <= bilinear_error(values)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda values: (
            np.roll(values, 1, axis=0) * np.float32(0.001) + values * np.float32(0.999)
        ),  # 1/1000 px
        lambda values: torch.from_numpy(values).bfloat16().float().numpy(),
        lambda values: values * np.float32(1 + 1e-3),
    ],
)
def test_an_interpolation_that_is_a_little_wrong_is_noticed(wrong: Any) -> None:
    values = noise(256, 256)
    found = bilinear(wrong(values), 480, 640)
    assert np.abs(found - bilinear(values, 480, 640)).max() > bilinear_error(values)


def test_a_deep_network_is_within_its_bound_and_a_shorter_type_is_not() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.LayerNorm(512)) for _ in range(24)]
    network, values = torch.nn.Sequential(*layers), torch.randn(64, 512)
    with torch.no_grad():
        found = network(values)
        exact = copy.deepcopy(network).double()(values.double())
        as_bfloat16 = network.bfloat16()(values.bfloat16())
    error = network_error(*[512] * 24) * float(exact.std())
    assert float((found - exact).abs().max()) <= error
    assert float((as_bfloat16 - exact).abs().max()) > error


def test_bounds_are_of_the_size_that_they_say() -> None:
    assert pytest.approx(1e-4, rel=0.1) == MASK_DECODER_ERROR
    assert np.finfo(np.float32).eps / 2 == UNIT
