"""Semantic bundles whose results follow from the image in a known way."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segserve.models.bundle import Bundle
from segserve.models.export.semantic import export_semantic
from segserve.models.manifest import SemanticManifest
from segserve.models.registry import ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel


class Channels(nn.Module):
    """Each class is one channel of the image: `sharpness` x (value - 0.5), values 0 to 1."""

    def __init__(self, sharpness: float = 20.0) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, image: Tensor) -> Tensor:
        return (image - 0.5) * self.sharpness


class Blurred(nn.Module):
    """Random 3 x 3 convolutions: the result at a pixel depends on `layers` pixels around it, and at the border on the
    zeros beyond."""

    def __init__(self, channels: int, classes: int, layers: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = [channels, *[4] * (layers - 1), classes]
        self.layers = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image) * 5
        return logits


def manifest(**fields: Any) -> SemanticManifest:
    values = {
        "name": "colours",
        "architecture": "none",
        "classes": ("red", "green", "blue"),
        "multiple": 8,
        "tile": (64, 64),
        "files": {},
        **fields,
    }
    return SemanticManifest.model_validate(values)


def write(folder: Path, network: nn.Module, **fields: Any) -> Bundle:
    """Write the bundle into a folder of models."""
    values = manifest(**fields)
    return export_semantic(network, folder / values.name, values)


def opened(folder: Path, network: nn.Module, **fields: Any) -> SemanticModel:
    bundle = write(folder, network, **fields)
    return ModelRegistry([folder], RuntimeOptionsByGraph(whole_image=RuntimeOptions()), 10**9).load(
        bundle.name, SemanticModel
    )
