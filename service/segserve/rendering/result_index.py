"""The result lines of a job on frames or slices, findable by frame."""

from array import array
from collections.abc import Iterable
from tempfile import TemporaryFile
from typing import Any, NotRequired, TypedDict

import numpy as np
import orjson

from segserve.errors import TooLarge
from segserve.masks import label_map as labels
from segserve.masks.label_map import MAX_UINT16_ID, Labels
from segserve.types import Size

MAX_UINT32 = (1 << 32) - 1


class ResultObject(TypedDict):
    """An object on a frame, as result lines have it."""

    object_id: int
    mask: dict[str, Any]
    box: list[int]
    area: int
    score: NotRequired[float | None]
    parent: NotRequired[int | None]


class ResultIndex:
    """They lie in a temporary file, as run lengths; memory holds 24 bytes a line, for where it is. Frames may come
    in any order, and in several lines: of an object on a frame the last entry counts. Used by one thread at a time."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 closed by `close`
        self._frames, self._begins, self._lengths = array("q"), array("q"), array("q")
        self._order: tuple[Any, Any] | None = None
        self._size: Size | None = None
        self._largest_id = 0

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Those without objects, such as errors, are passed over."""
        for line in lines:
            told = orjson.loads(line)
            if "objects" not in told:
                continue
            self._frames.append(told["frame"] if "frame" in told else told["slice"])
            self._begins.append(self._file.tell())
            self._lengths.append(len(line))
            self._file.write(line)
            self._size = self._size or Size(told["height"], told["width"])
            self._largest_id = max([self._largest_id, *(each["object_id"] for each in told["objects"])])
        self._order = None

    @property
    def frame_numbers(self) -> list[int]:
        """Those with lines, ascending."""
        found: list[int] = np.unique(np.array(self._frames, np.int64)).tolist()
        return found

    @property
    def size(self) -> Size:
        """Of a frame; there must be a line."""
        assert self._size is not None
        return self._size

    def frames_with_objects(self) -> list[int]:
        """The frames with objects on them, ascending."""
        return [
            frame for frame in self.frame_numbers if any(each["area"] for each in self.get_objects(frame))
        ]

    @property
    def dtype(self) -> type[np.uint16 | np.uint32]:
        """That holds every object_id. Raises TooLarge."""
        if self._largest_id > MAX_UINT32:
            raise TooLarge(
                f"There are object_ids up to {self._largest_id}, and label maps hold {MAX_UINT32}.",
                field="format",
                remedy="Ask for format 'ndjson' or 'coco'.",
            )
        return np.uint16 if self._largest_id <= MAX_UINT16_ID else np.uint32

    def get_objects(self, frame: int) -> list[ResultObject]:
        """The objects on the frame by object_id; none where it has no line."""
        if self._order is None:
            frames = np.array(self._frames, np.int64)
            order = np.argsort(frames, kind="stable")
            self._order = order, frames[order]
        order, frames = self._order
        begin, end = np.searchsorted(frames, [frame, frame + 1])
        found: dict[int, ResultObject] = {}
        for number in order[begin:end].tolist():
            self._file.seek(self._begins[number])
            for entry in orjson.loads(self._file.read(self._lengths[number]))["objects"]:
                found[entry["object_id"]] = entry
        return [found[object_id] for object_id in sorted(found)]

    def build_label_map(self, frame: int, size: Size) -> Labels:
        """[H, W] of object_ids, 0 for the background; where objects overlap the smaller one shows. Raises TooLarge, and
        BadInput where a mask is not of `size`."""
        found = [
            (each["object_id"], each["mask"]["counts"], each["area"]) for each in self.get_objects(frame)
        ]
        return labels.from_rle(found, size, self.dtype)

    def close(self) -> None:
        self._file.close()
