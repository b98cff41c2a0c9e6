"""Templates of a small SAM, in place of the published architectures: an import of it takes a second."""

import shutil
from pathlib import Path

import pytest

from segserve.models.export.write_templates import write_templates
from segserve.models.importers import sam
from segserve.models.manifest import Dims, PreprocessEntry
from segserve.models.templates import graph_template
from segserve.models.templates.architectures import SAM_ARCHITECTURES, SamArchitecture
from tests.models.networks import GRID, IMAGE, PATCH, small_sam

WIDTH = 32  # of the small network's encoder, in place of vit_b's 768


def small_architecture(name: str, width: int) -> SamArchitecture:
    published = SAM_ARCHITECTURES[name]
    preprocess = PreprocessEntry(
        input_size=IMAGE, mean=published.preprocess.mean, std=published.preprocess.std, resize="pad"
    )
    dims = Dims(embedding=(64, GRID, GRID), low=4 * GRID)
    return SamArchitecture(name, name, "small", published.patches, width, PATCH, preprocess, dims)


SMALL_ARCHITECTURES = {
    "vit_b": small_architecture("vit_b", WIDTH),
    "vit_l": small_architecture("vit_l", 2 * WIDTH),
    "vit_t": SAM_ARCHITECTURES["vit_t"],
    "vit_h": small_architecture("vit_h", 3 * WIDTH),
}


def write_small_templates(folder: Path) -> Path:
    write_templates(SMALL_ARCHITECTURES["vit_b"], folder, lambda name: small_sam(width=WIDTH), twice=False)
    shutil.copytree(
        graph_template.TEMPLATES_FOLDER / "vit_l", folder / "vit_l"
    )  # too large for small weights
    return folder


def use_small_templates(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Import by the templates of `write_small_templates` in `folder`."""
    monkeypatch.setattr(graph_template, "TEMPLATES_FOLDER", folder)
    monkeypatch.setattr(sam, "SAM_ARCHITECTURES", SMALL_ARCHITECTURES)
