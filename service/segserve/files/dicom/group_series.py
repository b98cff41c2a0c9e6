"""Put frames together that belong together: by series, size, kind and orientation, then by place and time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segserve.files.dicom.image_file import KEY_NAMES, Frame, Key
from segserve.files.dicom.slice_positions import (
    UnevenSlices,
    build_geometry,
    find_places,
    slice_normal,
)
from segserve.files.volume_geometry import VolumeGeometry

# Orientations are the same if no direction cosine differs by more.
SAME_ORIENTATION = 2e-3
# Images are at the same place if their first pixels are no further from each other, as part of a pixel.
SAME_CORNER_PART = 0.5
# Keys that are the same for all slices of one point in time: temporal position, echo time, b-value, image type,
# segment.
CONSTANT_KEYS = (0, 1, 2, 4, 5)
# Series that one series with uneven slices may be taken apart into.
MAX_PARTS = 16
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class Series:
    """`Series` is a set of frames that make one volume, or one run of frames, at each point in time.

    times: the frames of each point in time, in the order of slices.
    geometry: of a volume; None for frames, and where there is a problem.
    problem: a sentence on why it cannot be read as a volume.
    """

    name: str
    times: list[list[Frame]]
    geometry: VolumeGeometry | None = None
    problem: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Frame:
        return self.times[0][0]

    @property
    def count(self) -> int:
        return len(self.times[0])

    @property
    def is_volume(self) -> bool:
        return self.geometry is not None or bool(self.problem)

    @property
    def is_localizer(self) -> bool:
        return self.first.file.is_localizer

    @property
    def description(self) -> str:
        file = self.first.file
        return " ".join(word for word in (file.modality, file.description) if word)


def group_series(frames: Sequence[Frame]) -> list[Series]:
    """Return all series, sorted by their numbers; of one number, in the order of their files."""
    buckets = defaultdict[Any, list[Frame]](list)
    for frame in frames:
        buckets[bucket_key(frame)].append(frame)
    series = list[Series]()
    for bucket in buckets.values():
        for group in split_orientations(bucket):
            series += arrange(group)
    series.sort(key=lambda one: (one.first.file.series_number, one.first.file.series_uid))  # stable
    name_series(series)
    return series


def name_series(series: list[Series]) -> None:
    """Name each series by its UID, and number those that share one: UID, UID/2, UID/3."""
    counts = Counter[str]()
    for one in series:
        uid = one.first.file.series_uid[:64] or "series"
        counts[uid] += 1
        one.name = uid if counts[uid] == 1 else f"{uid}/{counts[uid]}"


def choose_default(series: Sequence[Series]) -> int:
    """Return the index of the series with the most frames. Localizers count only where there is nothing else."""

    def rank(index: int) -> tuple[bool, int]:
        one = series[index]
        return not one.is_localizer, sum(map(len, one.times))

    return max(range(len(series)), key=rank)


def bucket_key(frame: Frame) -> Any:
    file, pixels = frame.file, frame.file.pixels
    spacing = frame.pixel_spacing and tuple(round(value, 4) for value in frame.pixel_spacing)
    is_loop = pixels.frames > 1 and frame.position is None  # a cine loop is by itself
    return (
        file.series_uid,
        frame.size,
        pixels.is_colour,
        spacing,
        frame.position is None,
        frame.orientation is None,
        frame.stack,
        frame.problem,
        file.is_localizer,
        frame.file.entry if is_loop else None,
    )


def split_orientations(frames: list[Frame]) -> list[list[Frame]]:
    if frames[0].orientation is None:
        return [frames]
    groups = list[list[Frame]]()
    directions = np.empty((0, 6))
    known = dict[Any, int]()
    for frame in frames:
        number = known.get(frame.orientation)
        if number is None:
            same = np.flatnonzero(
                np.abs(directions - np.array(frame.orientation)).max(1, initial=0) <= SAME_ORIENTATION
            )
            if len(same):
                number = int(same[0])
            else:
                number = len(groups)
                groups.append([])
                directions = np.vstack([directions, np.array(frame.orientation)])
            known[frame.orientation] = number
        groups[number].append(frame)
    return groups


def is_one_file(frames: list[Frame]) -> bool:
    return all(frame.file.entry == frames[0].file.entry and frame.tile is None for frame in frames)


def file_order(frame: Frame) -> tuple[int, int, int]:
    return frame.file.instance_number, frame.file.entry, frame.index


def arrange(frames: list[Frame]) -> list[Series]:
    """Return the volumes or runs of frames that frames of one orientation make."""
    first = frames[0]
    if first.problem:
        return [Series("", [sorted(frames, key=file_order)], problem=first.problem)]
    if first.position is None or first.orientation is None:
        ordered = sorted(frames, key=file_order)
        if len(frames) > 1 or first.file.pixels.is_colour:
            return [Series("", [ordered])]
        return [single_slice(first)]
    places = find_places(np.array([frame.position for frame in frames]), slice_normal(first.orientation))
    counts = np.bincount(places.places)
    if first.file.pixels.is_colour:
        if counts.max() == 1:
            return [Series("", [[frames[i] for i in np.argsort(places.places)]])]
        return [Series("", [sorted(frames, key=file_order)])]
    if counts.max() == 1:
        order = np.argsort(places.places)
        if is_one_file(frames) and (np.diff(places.places) < 0).all():
            order = order[::-1]  # a multi-frame file keeps its own order
        whole = build_series([[frames[i] for i in order]])
        return split_uneven(frames) or [whole] if whole.problem else [whole]
    if counts.min() == counts.max():
        return [split_times(frames, places.places, int(counts[0]))]
    return split_unequal(frames, places.places)


def single_slice(frame: Frame) -> Series:
    """A picture without a place in space, such as a radiograph: a volume of one slice at the origin."""
    spacing = frame.pixel_spacing or (1.0, 1.0)
    geometry, notes = build_geometry(
        np.zeros((1, 3)), IDENTITY, spacing, frame.slice_spacing or 1.0, frame.size
    )
    if frame.pixel_spacing is None:
        notes = ["The header states no size of pixels: 1 mm is taken."]
    return Series("", [[frame]], geometry, notes=notes)


def build_series(times: list[list[Frame]], note: str = "") -> Series:
    """Return the series of frames that are sorted by place, with its geometry or its problem."""
    ordered = times[0]
    first = ordered[0]
    assert first.orientation is not None
    series = Series("", times, notes=[note] if note else [])
    series.notes += dict.fromkeys(note for frame in ordered for note in frame.notes)
    if first.pixel_spacing is None:
        series.notes.append("The header states no size of pixels: 1 mm is taken.")
    for frames in reversed(times):
        positions = np.array([frame.position for frame in frames])
        try:
            geometry, notes = build_geometry(
                positions,
                first.orientation,
                first.pixel_spacing or (1.0, 1.0),
                first.slice_spacing,
                first.size,
            )
        except UnevenSlices as uneven:
            series.problem, series.geometry = str(uneven), None
            return series
        series.geometry = geometry
    series.notes += notes
    return series


def split_times(frames: list[Frame], places: Any, times: int) -> Series:
    """Return the series of frames that are `times` at each place: sorted by KEY_NAMES there."""
    by_place = defaultdict[int, list[Frame]](list)
    for frame, place in zip(frames, places.tolist(), strict=True):
        by_place[place].append(frame)
    for at in by_place.values():
        at.sort(key=lambda frame: (frame.keys, *file_order(frame)))
    stacks = [[by_place[place][time] for place in sorted(by_place)] for time in range(times)]
    first = frames[0].pixel_spacing or (1.0, 1.0)
    corners = np.array([[frame.position for frame in stack] for stack in stacks])
    if np.abs(corners - corners[:1]).max() > SAME_CORNER_PART * min(first):
        problem = f"There are {times} images at each height, which lie side by side."
        return Series("", stacks, problem=problem)
    for key in CONSTANT_KEYS:
        if len({frame.keys[key] for frame in frames}) <= times and any(
            len({frame.keys[key] for frame in stack}) > 1 for stack in stacks
        ):
            differing = KEY_NAMES[key]
            problem = f"There are {times} images at each place; {differing} differs, not everywhere alike."
            return Series("", stacks, problem=problem)
    keys = [
        name
        for key, name in enumerate(KEY_NAMES)
        if any(len({frame.keys[key] for frame in at}) > 1 for at in by_place.values())
    ]
    how = f"told apart by {keys[0]}" if keys else "told apart by the numbers of the instances"
    return build_series(stacks, f"There are {times} images at each place, {how}.")


def partition(frames: list[Frame], key: int) -> list[list[Frame]]:
    """Return the frames by a key, sorted by its values."""
    return partition_by(frames, lambda frame: frame.keys[key])


def partition_by(frames: list[Frame], value_of: Callable[[Frame], Key]) -> list[list[Frame]]:
    parts = defaultdict[Any, list[Frame]](list)
    for frame in frames:
        parts[value_of(frame)].append(frame)
    return [parts[value] for value in sorted(parts)]


def split_unequal(frames: list[Frame], places: Any) -> list[Series]:
    """Return the series of frames that are more at some places than at others.

    The first key that takes them apart into stacks tells points in time. Without such a key a scan that was broken off
    is told by the order of its images, if all places have two or more. What is not at all places is by itself.
    """
    place_of = {id(frame): place for frame, place in zip(frames, places.tolist(), strict=True)}
    counts = np.bincount(places)
    for key in range(len(KEY_NAMES)):
        parts = partition(frames, key)
        part_places = [sorted(place_of[id(frame)] for frame in part) for part in parts]
        are_stacks = 2 <= len(parts) <= len(frames) // 2
        if not are_stacks or any(len(set(at)) < len(at) for at in part_places):
            continue
        groups = defaultdict[Any, list[list[Frame]]](list)
        for part, at in zip(parts, part_places, strict=True):
            groups[tuple(at)].append(sorted(part, key=lambda frame: place_of[id(frame)]))
        if len(groups) > MAX_PARTS:
            continue
        note = f"The images at one place are told apart by {KEY_NAMES[key]}."
        return [build_series(times, note) for times in groups.values()]
    if (times := int(counts.min())) > 1:
        by_place = defaultdict[int, list[Frame]](list)
        for frame in sorted(frames, key=lambda frame: (frame.keys, *file_order(frame))):
            by_place[place_of[id(frame)]].append(frame)
        whole = [frame for at in by_place.values() for frame in at[:times]]
        rest = [frame for at in by_place.values() for frame in at[times:]]
        problem = f"It is part of a point in time that was broken off: {len(rest)} images."
        return [
            split_times(whole, np.array([place_of[id(frame)] for frame in whole]), times),
            Series("", [rest], problem=problem),
        ]
    problem = (
        f"There are {len(frames)} images at {len(counts)} places, up to {counts.max()} at one, and nothing in the"
        " headers tells them apart."
    )
    return [Series("", [sorted(frames, key=file_order)], problem=problem)]


def split_uneven(frames: list[Frame]) -> list[Series]:
    """Return the evenly spaced series that frames at uneven places are made of, if the thickness of slices or a key
    takes them apart."""
    for name, parts in [
        ("thickness", partition_by(frames, lambda frame: (frame.slice_spacing or 0.0,))),
        *((name, partition(frames, key)) for key, name in enumerate(KEY_NAMES)),
    ]:
        if not 2 <= len(parts) <= MAX_PARTS or min(map(len, parts)) < 2:
            continue
        series = []
        for part in parts:
            assert part[0].orientation is not None
            normal = slice_normal(part[0].orientation)
            part.sort(key=lambda frame: float(np.dot(frame.position or (0, 0, 0), normal)))
            series.append(build_series([part], f"The series has several stacks, by {name}."))
        if not any(one.problem for one in series):
            return series
    return []
