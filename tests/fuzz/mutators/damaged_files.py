"""Files of every format that a native library reads, made by code, and damaged."""

import gzip
import io
import random
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.files.dicom_files import encode_dicom
from tests.files.sample_files import CODECS, encode_frame, make_volume, write_dicom_series, write_video
from tests.fuzz.harnesses.archives import make_zip
from tests.fuzz.harnesses.dicom import dicom_seeds
from tests.fuzz.harnesses.pictures import bmp_seeds, jpeg_seeds, png_seeds, tiff_seeds, webp_seeds
from tests.fuzz.harnesses.sandboxed_pictures import codestream_seeds, native_seeds, pnm_seeds, psd_seeds
from tests.fuzz.harnesses.volumes import metaimage_seeds, mgh_seeds, nifti_seeds, nrrd_seeds, volume_zip_seeds
from tests.fuzz.mutate import mutate
from tests.fuzz.service import make_stack
from tests.images.sample_images import write_tiff


@dataclass(frozen=True)
class SampleFiles:
    """`SampleFiles` are valid files. series: the slices of DICOM series, by name, which are packed after damage."""

    files: list[bytes]
    series: list[dict[str, bytes]]


def make_files() -> SampleFiles:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write_video(folder / f"video.{suffix}", 8).read_bytes() for suffix in CODECS]
        files += [write_volume(folder / f"volume{suffix}") for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")]
        series = [write_dicom_series(folder / "series", 3)]
    files += [
        *nifti_seeds(),
        *nrrd_seeds(),
        *metaimage_seeds(),
        *mgh_seeds(),
        *volume_zip_seeds(),
        make_stack(),
    ]
    files.append(write_tiff(np.zeros((3, 16, 24), np.uint16), compression="zlib", photometric="minisblack"))
    files.append(make_zip({f"{index}.png": encode_frame(index) for index in range(3)}, zipfile.ZIP_STORED))
    series.append({f"{z}.dcm": encode_dicom(z=z) for z in range(3)})
    series += [{f"{index}.dcm": data} for index, data in enumerate(dicom_seeds())]
    return SampleFiles(files, series)


def make_pictures() -> list[bytes]:
    """Return a picture in every format."""
    makers = (
        png_seeds,
        jpeg_seeds,
        webp_seeds,
        bmp_seeds,
        tiff_seeds,
        pnm_seeds,
        psd_seeds,
        codestream_seeds,
    )
    return [*native_seeds(), *(seed for make in makers for seed in make())]


def write_volume(path: Path) -> bytes:
    sitk.WriteImage(make_volume(4), str(path))
    return path.read_bytes()


def make_damaged_file(rng: random.Random, samples: SampleFiles) -> bytes:
    """Return a damaged file. What is packed is mostly damaged before it is packed: otherwise only unpacking sees it."""
    if rng.random() < 0.3:
        return damage_series(rng, rng.choice(samples.series))
    data = rng.choice(samples.files)
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.8:
        return gzip.compress(mutate(rng, gzip.decompress(data)), 1, mtime=0)
    if data[:2] == b"PK" and rng.random() < 0.7:
        return damage_zip(rng, data)
    if data[:4] == b"NRRD" and (start := data.find(b"\x1f\x8b")) > 0 and rng.random() < 0.5:
        voxels = mutate(rng, gzip.decompress(data[start:]))
        return mutate(rng, data[:start]) + gzip.compress(voxels, 1, mtime=0)
    return mutate(rng, data, samples.files)


def damage_series(rng: random.Random, slices: dict[str, bytes]) -> bytes:
    """Return a zip of a series in which some slices are damaged."""
    others: Sequence[bytes] = list(slices.values())
    damaged = {
        name: mutate(rng, data, others) if rng.random() < 0.6 else data for name, data in slices.items()
    }
    return make_zip(damaged, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def damage_zip(rng: random.Random, data: bytes) -> bytes:
    """Return the zip with damaged entries, whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    return make_zip({name: mutate(rng, content) for name, content in entries.items()}, zipfile.ZIP_DEFLATED)
