"""A small corpus with a file of each kind, right and damaged, and what the check of each must find."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from tests.corpus.verdicts import Verdict
from tests.files import sample_files

RIGHT = {Verdict.RIGHT}


def write_corpus(folder: Path) -> dict[str, set[Verdict]]:
    """Write the files. Returns the verdicts that each may have, by name."""
    frame = sample_files.draw_frame(3)
    rng = np.random.default_rng(1)
    Image.fromarray(frame).save(folder / "picture.png")
    Image.fromarray(frame).save(folder / "picture.jpg")
    Image.fromarray(frame[:, :, 0]).save(folder / "grey.bmp")
    tifffile.imwrite(folder / "deep.tif", rng.integers(100, 4000, (40, 50), np.uint16))
    tifffile.imwrite(
        folder / "stack.tif", rng.integers(0, 255, (4, 40, 50), np.uint8), photometric="minisblack"
    )
    volume = sample_files.make_volume()
    for name in ("volume.nii.gz", "volume.nii", "volume.nrrd", "volume.mha"):
        sitk.WriteImage(volume, folder / name)
    whole = (folder / "volume.nii").read_bytes()
    (folder / "cut.nii").write_bytes(whole[: len(whole) // 2])
    sample_files.write_video(folder / "clip.mp4", count=7)
    sample_files.write_zip(
        folder / "frames.zip", {f"{i}.png": sample_files.encode_frame(i) for i in range(3)}
    )
    sample_files.write_zip(folder / "series.zip", sample_files.write_dicom_series(folder / ".series"))
    (folder / "cut.png").write_bytes((folder / "picture.png").read_bytes()[:90])
    (folder / "letter.txt").write_text("Dear reader")
    (folder / "nothing").touch()
    return {
        "picture.png": RIGHT,
        "picture.jpg": RIGHT,
        "grey.bmp": RIGHT,
        "deep.tif": RIGHT | {Verdict.RIGHT_SIZE},
        "stack.tif": RIGHT,
        "volume.nii.gz": RIGHT,
        "volume.nii": RIGHT,
        "volume.nrrd": RIGHT,
        "volume.mha": RIGHT,
        "cut.nii": {Verdict.REFUSED_RIGHTLY},
        "clip.mp4": RIGHT | {Verdict.RIGHT_SIZE},
        "frames.zip": {Verdict.RIGHT_SIZE},
        "series.zip": {Verdict.UNKNOWN, Verdict.RIGHT_SIZE, Verdict.RIGHT},
        "cut.png": {Verdict.REFUSED_RIGHTLY},
        "letter.txt": {Verdict.REFUSED_RIGHTLY},
        "nothing": {Verdict.REFUSED_RIGHTLY},
    }
