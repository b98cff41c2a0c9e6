"""A 4096 x 4096 image through a U-Net: our sliding window on ONNX Runtime against a plain loop in PyTorch."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.measuring import THREADS, Measurement, at_least, measure_interleaved_ms
from segserve.models.export.semantic import export_semantic
from segserve.models.manifest import SemanticManifest
from segserve.models.networks.unet import FeatureListUNet
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_manifest import SemanticInput
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.segmenter import segment_image
from segserve.timing import Timings
from segserve.types import Size, UInt8

IMAGE_PX = 4096
TILE_PX = 512
OVERLAP = 0.25  # of a tile
FEATURES = (16, 32, 64, 128)  # and 256 in the bottleneck
CLASSES = 2
REPEATS = 3


def build_network() -> nn.Module:
    """Return a U-Net with random weights. Its batch norms have statistics, as after training."""
    torch.manual_seed(0)
    network = FeatureListUNet(1, CLASSES, FEATURES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def draw_image() -> UInt8:
    """Return smooth grey noise [H, W, 3]."""
    coarse = torch.rand(1, 1, IMAGE_PX // 16, IMAGE_PX // 16, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.interpolate(coarse, (IMAGE_PX, IMAGE_PX), mode="bicubic")[0, 0].clamp(0, 1)
    grey = (smooth.numpy() * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def tile_starts() -> list[int]:
    """Return the usual positions of tiles along an edge: a fixed stride, the last tile moved back to the edge."""
    stride = int(TILE_PX * (1 - OVERLAP))
    return [*range(0, IMAGE_PX - TILE_PX, stride), IMAGE_PX - TILE_PX]


def run_plain_loop(model: nn.Module, image: UInt8) -> tuple[UInt8, Tensor]:
    """Return (class map [H, W], probabilities [C, H, W]) of the usual loop.

    It runs one tile after another, adds up weighted probabilities, and divides by the sum of the weights.
    """
    ramp = torch.minimum(torch.arange(TILE_PX), torch.arange(TILE_PX).flip(0)) + 0.5
    weights = ramp[:, None] * ramp
    with torch.inference_mode():
        values = torch.from_numpy(image[..., 0]).float()[None, None] / 255
        total, weight = torch.zeros(CLASSES, IMAGE_PX, IMAGE_PX), torch.zeros(IMAGE_PX, IMAGE_PX)
        for y in tile_starts():
            for x in tile_starts():
                probabilities = torch.sigmoid(model(values[:, :, y : y + TILE_PX, x : x + TILE_PX]))[0]
                total[:, y : y + TILE_PX, x : x + TILE_PX] += probabilities * weights
                weight[y : y + TILE_PX, x : x + TILE_PX] += weights
        total /= weight
        best, index = total.max(dim=0)
        return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8).numpy(), total


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    reference, image = build_network(), draw_image()
    manifest = SemanticManifest(
        name="bench",
        architecture="unet",
        classes=("a", "b"),
        input=SemanticInput(channels=1),
        multiple=16,
        tile=(TILE_PX, TILE_PX),
        overlap=OVERLAP,
        files={},
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_semantic(reference, Path(folder) / "bench", manifest)
        model = SemanticModel(bundle, RuntimeOptions(threads=THREADS))
        options = SemanticOptions(probabilities=True)
        tile = check_options(options, manifest, Size(IMAGE_PX, IMAGE_PX))
        thresholds = np.full(CLASSES, 0.5, np.float32)
        ours = segment_image("", image, model, options, tile, thresholds, Timings())
        expected, probabilities = run_plain_loop(reference, image)
        assert ours.probabilities is not None
        difference = np.abs(ours.probabilities - probabilities.numpy())
        agreement = float((ours.values == expected).mean())
        map_only = SemanticOptions()
        times = measure_interleaved_ms(
            {
                "ours": lambda: segment_image("", image, model, map_only, tile, thresholds, Timings()),
                "plain": lambda: run_plain_loop(reference, image),
            },
            repeats=REPEATS,
            warm_up=0,  # both ran above
        )
    tiles = f"{len(tile_starts()) ** 2} tiles of {TILE_PX}, overlap {OVERLAP}"
    return [
        Measurement(
            f"{IMAGE_PX} x {IMAGE_PX}, U-Net {FEATURES} + 256, {tiles}: segserve",
            f"{times['ours'] / 1000:.1f} s",
        ),
        Measurement("a plain loop in eager PyTorch, fp32", f"{times['plain'] / 1000:.1f} s"),
        at_least("segserve against it", times["plain"] / times["ours"], 1.5),
        Measurement(
            "probabilities: pixels within 0.01 of each other (tiles have other positions, so blends differ)",
            f"{100 * float((difference < 0.01).mean()):.2f}%",
        ),
        Measurement("pixels of the same class", f"{100 * agreement:.2f}%"),
    ]
