"""A 4096 x 4096 image through a U-Net: our sliding window on ONNX Runtime against a plain loop in torch."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.common import THREADS, Line, at_least, interleaved_ms
from segserve.models.export.semantic import export_semantic
from segserve.models.manifest import SemanticManifest
from segserve.models.networks.unet import FeatureListUNet
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.semantic_manifest import SemanticInput
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.segmenter import segment_image
from segserve.timing import Timings
from segserve.types import Size, UInt8

EDGE, TILE, OVERLAP = 4096, 512, 0.25
FEATURES = (16, 32, 64, 128)  # and 256 in the bottleneck
CLASSES = 2
REPEATS = 3


def network() -> nn.Module:
    """A U-Net under random weights, its batch norms as after training."""
    torch.manual_seed(0)
    made = FeatureListUNet(1, CLASSES, FEATURES)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return made.eval()


def picture() -> UInt8:
    """Smooth noise, grey, as RGB."""
    coarse = torch.rand(1, 1, EDGE // 16, EDGE // 16, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.interpolate(coarse, (EDGE, EDGE), mode="bicubic")[0, 0].clamp(0, 1)
    grey = (smooth.numpy() * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def starts() -> list[int]:
    """As everybody lays tiles: a stride, and the last one moved back to the edge."""
    stride = int(TILE * (1 - OVERLAP))
    return [*range(0, EDGE - TILE, stride), EDGE - TILE]


def plain(model: nn.Module, image: UInt8) -> tuple[UInt8, Tensor]:
    """The usual loop: one tile after another, probabilities weighted and summed, divided by the sum of weights."""
    ramp = torch.minimum(torch.arange(TILE), torch.arange(TILE).flip(0)) + 0.5
    weights = ramp[:, None] * ramp
    with torch.inference_mode():
        values = torch.from_numpy(image[..., 0]).float()[None, None] / 255
        total, weight = torch.zeros(CLASSES, EDGE, EDGE), torch.zeros(EDGE, EDGE)
        for y in starts():
            for x in starts():
                found = torch.sigmoid(model(values[:, :, y : y + TILE, x : x + TILE]))[0]
                total[:, y : y + TILE, x : x + TILE] += found * weights
                weight[y : y + TILE, x : x + TILE] += weights
        total /= weight
        best, index = total.max(dim=0)
        return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8).numpy(), total


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
    reference, image = network(), picture()
    manifest = SemanticManifest(
        name="bench",
        architecture="unet",
        classes=("a", "b"),
        input=SemanticInput(channels=1),
        multiple=16,
        tile=(TILE, TILE),
        overlap=OVERLAP,
        files={},
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_semantic(reference, Path(folder) / "bench", manifest)
        model = SemanticModel(bundle, RuntimeOptions(threads=THREADS))
        options = SemanticOptions(probabilities=True)
        tile = check_options(options, manifest, Size(EDGE, EDGE))
        least = np.full(CLASSES, 0.5, np.float32)
        ours = segment_image("", image, model, options, tile, least, Timings())
        expected, probabilities = plain(reference, image)
        assert ours.probabilities is not None
        difference = np.abs(ours.probabilities - probabilities.numpy())
        agreement = float((ours.values == expected).mean())
        asked = SemanticOptions()
        times = interleaved_ms(
            {
                "ours": lambda: segment_image("", image, model, asked, tile, least, Timings()),
                "plain": lambda: plain(reference, image),
            },
            repeats=REPEATS,
            warm=0,  # both ran above
        )
    tiles = f"{len(starts()) ** 2} tiles of {TILE}, overlap {OVERLAP}"
    return [
        Line(f"{EDGE} x {EDGE}, U-Net {FEATURES} + 256, {tiles}: segserve", f"{times['ours'] / 1000:.1f} s"),
        Line("a plain loop in torch, eager, fp32", f"{times['plain'] / 1000:.1f} s"),
        at_least("segserve against it", times["plain"] / times["ours"], 1.5),
        Line(
            "probabilities: pixels within 0.01 of each other (tiles are spaced otherwise, so blends differ)",
            f"{100 * float((difference < 0.01).mean()):.2f}%",
        ),
        Line("pixels of the same class", f"{100 * agreement:.2f}%"),
    ]
