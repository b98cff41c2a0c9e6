"""Scores of tracks by the measures of the Cell Tracking Challenge (CTC), which the package py-ctcmetrics computes.

    SEG   mean IoU of the true cells with the predicted ones that cover more than half of each
    DET   how cheaply the predicted cells could be corrected to the true ones, 0 to 1
    TRA   the same for cells and links together

A truth is a folder as the challenge has it: TRA/man_track.txt, TRA/man_trackTTT.tif, and SEG/man_segTTT.tif, where some
frames may be missing. A result is a folder of maskTTT.tif and res_track.txt, or a zip of these as `segserve track`
writes it.
"""

import contextlib
import io
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile

from segserve.errors import BadInput, MissingDependency
from segserve.images.image_source import wrap_codec_errors
from segserve.tracking.ctc_format import TRACKS_FILE

MEASURES = ("SEG", "DET", "TRA")
RESULT_SUFFIX, TRUTH_SUFFIX = "_RES", "_GT"
MASK_NAME = re.compile(r"mask(\d+)\.tif")
MAX_NAMES_SHOWN = 5
MAX_UNPACKED_BYTES = 64 << 30  # of a zip of masks


@dataclass(frozen=True)
class TrackedSequence:
    """One result and its truth. result: a folder or a zip."""

    name: str
    result: Path
    truth: Path


def find_sequences(result: Path, truth: Path) -> list[TrackedSequence]:
    """Return the pair, or the pairs of two folders that hold NAME_RES and NAME_GT. Raises BadInput."""
    for path in (result, truth):
        if not path.exists():
            raise BadInput(
                f"{path} does not exist.", field=str(path), remedy="Name a folder, or a zip of tracks."
            )
    results = [] if result.is_file() else sorted(result.glob(f"*{RESULT_SUFFIX}"))
    if not results:
        return [TrackedSequence(result.name, result, truth)]
    sequences = []
    for each in results:
        name = each.name.removesuffix(RESULT_SUFFIX)
        partner = truth / f"{name}{TRUTH_SUFFIX}"
        if not partner.is_dir():
            raise BadInput(
                f"{each.name} has no {partner.name} in {truth}.",
                field=str(truth),
                remedy=f"Name the truth of NAME{RESULT_SUFFIX} NAME{TRUTH_SUFFIX}.",
            )
        sequences.append(TrackedSequence(name, each, partner))
    return sequences


def score_sequence(sequence: TrackedSequence) -> dict[str, float | None]:
    """Return the measures by name. SEG is None where the truth has no folder SEG.

    Raises BadInput that names the file at fault, and MissingDependency.
    """
    try:
        from ctc_metrics import evaluate_sequence
    except ImportError:
        raise MissingDependency("py-ctcmetrics", "evaluate", "Scoring tracks") from None
    with open_result(sequence.result) as folder:
        has_segmentations = check_sequence(sequence, folder)
        if not count_tracks(folder / TRACKS_FILE):  # py-ctcmetrics fails on it
            check_all_empty(sequence, folder)
            return {"SEG": 0.0 if has_segmentations else None, "DET": 0.0, "TRA": 0.0}
        measures = [name for name in MEASURES if has_segmentations or name != "SEG"]
        # One thread: it would start processes for a few files, and prints as it goes.
        with warnings.catch_warnings(record=True) as faults, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            scores: Mapping[str, float | None] = evaluate_sequence(
                str(folder), str(sequence.truth), ["Valid", *measures], 1
            )
    if not scores["Valid"]:
        fault = next((str(each.message) for each in faults if each.category is UserWarning), "")
        raise BadInput(
            f"{sequence.result} breaks the rules of the Cell Tracking Challenge. {fault}".strip(),
            field=str(sequence.result),
            remedy=f"Each label of a mask needs a line in {TRACKS_FILE} that covers its frame.",
        )
    return {name: scores.get(name) for name in MEASURES}


@contextmanager
def open_result(result: Path) -> Iterator[Path]:
    """Yield the folder of a result; a zip is unpacked while the block runs. Raises BadInput."""
    if result.is_dir():
        yield result
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(result) as archive:
                entries = [
                    entry
                    for entry in archive.infolist()
                    if entry.filename == TRACKS_FILE or MASK_NAME.fullmatch(entry.filename)
                ]
                if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
                    raise BadInput(
                        f"{result} is too large to unpack.", field=str(result), remedy="Unpack it."
                    )
                archive.extractall(folder, entries)
        except zipfile.BadZipFile:
            raise BadInput(
                f"{result} is no complete zip.",
                field=str(result),
                remedy="Name a zip of tracks, or a folder.",
            ) from None
        yield Path(folder)


def check_sequence(sequence: TrackedSequence, folder: Path) -> bool:
    """Check names and sizes of all files, and return whether the truth has segmentations. Raises BadInput."""
    tracking = sequence.truth / "TRA"
    for path, remedy in (
        (folder / TRACKS_FILE, f"Name a folder of maskTTT.tif and {TRACKS_FILE}."),
        (tracking / "man_track.txt", "Name a folder of the challenge, with TRA/man_track.txt."),
    ):
        if not path.is_file():
            whose = sequence.result if path.parent == folder else sequence.truth
            raise BadInput(f"There is no {path.name} in {whose}.", field=str(whose), remedy=remedy)
    if not count_tracks(tracking / "man_track.txt"):
        raise BadInput(
            f"{sequence.truth} has no tracks.",
            field=str(sequence.truth),
            remedy="Name a truth that has some.",
        )
    masks = list_frames(folder, "mask")
    tracked = list_frames(tracking, "man_track")
    segmented = list_frames(sequence.truth / "SEG", "man_seg")
    if sorted(masks) != list(range(len(masks))) or masks.keys() != tracked.keys():
        only = sorted(masks.keys() ^ tracked.keys())[:MAX_NAMES_SHOWN]
        raise BadInput(
            f"{sequence.result} has masks of {len(masks)} frames and {tracking} of {len(tracked)}"
            + (f"; not in both: {', '.join(map(str, only))}." if only else ", which do not begin at 0."),
            field=str(sequence.result),
            remedy="Both need one mask for each frame, from 0 on.",
        )
    if extra := sorted(segmented.keys() - masks.keys()):
        raise BadInput(
            f"{segmented[extra[0]]} is of a frame that the result has not.",
            field=str(sequence.truth),
            remedy="Take it away, or track all frames.",
        )
    size = read_size(tracked[0]) if tracked else ()
    for path in (*masks.values(), *tracked.values(), *segmented.values()):
        if read_size(path) != size:
            raise BadInput(
                f"{path.name} is an array of {read_size(path)}, and {tracked[0].name} of {size}.",
                field=str(sequence.result),
                remedy="All masks need one size.",
            )
    return bool(segmented)


def count_tracks(path: Path) -> int:
    """Return the number of lines `L B E P` of a file of tracks. Raises BadInput that names the first other line."""
    count = 0
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if fields and not (len(fields) == 4 and all(field.isdecimal() for field in fields)):
            raise BadInput(
                f"Line {number} of {path.name} is not four whole numbers.",
                field=str(path),
                remedy="Write label, first frame, last frame and parent.",
            )
        count += bool(fields)
    return count


def check_all_empty(sequence: TrackedSequence, folder: Path) -> None:
    """Raise BadInput where a result without tracks has cells all the same."""
    for path in list_frames(folder, "mask").values():
        with TiffFile(path) as file:
            has_cells = file.asarray().any()
        if has_cells:
            raise BadInput(
                f"{path.name} has cells, and {TRACKS_FILE} no line.",
                field=str(sequence.result),
                remedy="Write a line for each track.",
            )


def list_frames(folder: Path, prefix: str) -> dict[int, Path]:
    """Return the masks of a folder by frame; none where there is no folder."""
    pattern = re.compile(rf"{prefix}(\d+)\.tif")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return {int(match[1]): folder / name for name in names if (match := pattern.fullmatch(name))}


def read_size(path: Path) -> tuple[int, ...]:
    """Return the shape of a mask. Raises BadInput that names the file."""
    try:
        with wrap_codec_errors("TIFF"), TiffFile(path) as file:
            return tuple(file.series[0].shape)
    except (BadInput, OSError):
        raise BadInput(
            f"{path.name} cannot be read as a TIFF.", field=str(path), remedy="Write it again."
        ) from None
