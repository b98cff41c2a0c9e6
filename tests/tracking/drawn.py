"""A drawn sequence of moving and dividing cells, and its true tracks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from segserve.tracking.detections import Detections
from segserve.tracking.tracks import Tracks

HEIGHT, WIDTH, COUNT = 160, 220, 14

UInt32 = NDArray[np.uint32]
Centre = Callable[[int], tuple[float, float]]

# By track id: first and last frame, id of the mother, centre (x, y) on a frame. Cell 2 divides, and so does its
# daughter 5. Cell 3 leaves and cell 6 comes.
CELLS: dict[int, tuple[int, int, int | None, Centre]] = {
    1: (0, 13, None, lambda t: (20 + 6 * t, 20)),
    2: (0, 3, None, lambda t: (60 + 2 * t, 80)),
    3: (0, 5, None, lambda t: (200, 130 + 3 * t)),
    4: (4, 13, 2, lambda t: (56 - 2 * (t - 4), 80)),
    5: (4, 8, 2, lambda t: (78 + 5 * (t - 4), 80 + (t - 4))),
    6: (5, 13, None, lambda t: (150 - 4 * (t - 5), 140)),
    7: (9, 13, 5, lambda t: (102, 76 - 3 * (t - 9))),
    8: (9, 13, 5, lambda t: (102, 96 + 3 * (t - 9))),
}


def detections_at(*centres: tuple[float, float], area: int = 100) -> Detections:
    """Return the detections of a frame with objects of one size, none touching."""
    count = len(centres)
    return Detections(np.arange(1, count + 1), np.array(centres, float).reshape(-1, 2), np.full(count, area))


def describe(tracks: Tracks) -> list[tuple[int, list[int], int | None]]:
    """Return the id, the frames and the parent of each track."""
    return [(track.track_id, track.frames.tolist(), track.parent) for track in tracks.tracks]


def draw_tracks() -> list[UInt32]:
    """Draw the label maps of track ids, frame by frame."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for frame in range(COUNT):
        labels = np.zeros((HEIGHT, WIDTH), np.uint32)
        for track_id, (begin, end, _, centre) in CELLS.items():
            if begin <= frame <= end:
                x, y = centre(frame)
                labels[(rows - y) ** 2 + (columns - x) ** 2 < 9**2] = track_id
        frames.append(labels)
    return frames


def renumber(frames: list[UInt32]) -> list[UInt32]:
    """Number the objects from 1 in each frame, as a segmentation does, in the order of their track ids.

    Tracks that begin on the same frame are numbered in this order too.
    """
    return [np.searchsorted(np.unique(labels), labels).astype(np.uint32) for labels in frames]


def shuffle_ids(frames: list[UInt32]) -> list[UInt32]:
    """Put the ids of each frame in random order."""
    random = np.random.default_rng(0)
    return [
        np.append(0, 1 + random.permutation(int(labels.max()))).astype(np.uint32)[labels] for labels in frames
    ]


def write_ground_truth(folder: Path) -> None:
    """Write the drawn sequence as the challenge's own reference: man_track*.tif, man_track.txt and man_seg*.tif."""
    for name in ("TRA", "SEG"):
        (folder / name).mkdir(parents=True)
    for frame, labels in enumerate(draw_tracks()):
        tifffile.imwrite(folder / "TRA" / f"man_track{frame:03}.tif", labels.astype(np.uint16))
        tifffile.imwrite(folder / "SEG" / f"man_seg{frame:03}.tif", labels.astype(np.uint16))
    (folder / "TRA" / "man_track.txt").write_text(format_tracks())


def write_result(folder: Path) -> None:
    """Write the drawn sequence as a perfect result: mask*.tif and res_track.txt."""
    folder.mkdir(parents=True)
    for frame, labels in enumerate(draw_tracks()):
        tifffile.imwrite(folder / f"mask{frame:03}.tif", labels.astype(np.uint16))
    (folder / "res_track.txt").write_text(format_tracks())


def format_tracks() -> str:
    """Return the lines of man_track.txt."""
    return "".join(f"{each} {begin} {end} {mother or 0}\n" for each, (begin, end, mother, _) in CELLS.items())
