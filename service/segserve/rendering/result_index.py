"""An index of result lines: finds the objects of a job by frame or slice."""

from array import array
from collections.abc import Iterable
from tempfile import TemporaryFile
from typing import Any, NotRequired, TypedDict

import numpy as np
import orjson

from segserve.errors import TooLarge
from segserve.masks import label_map
from segserve.masks.label_map import MAX_UINT16_ID, Labels
from segserve.types import Size

MAX_UINT32_ID = (1 << 32) - 1


class ResultObject(TypedDict):
    """An object on a frame, as result lines have it. mask: COCO run lengths. box: [x0, y0, x1, y1]."""

    object_id: int
    mask: dict[str, Any]
    box: list[int]
    area: int
    score: NotRequired[float | None]
    parent: NotRequired[int | None]


class ResultIndex:
    """`ResultIndex` keeps result lines in a temporary file; memory holds 24 bytes a line, for where it is.

    Frames may come in any order, and in several lines: for an object on a frame the last line counts. It may be used by
    one thread at a time.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 closed by `close`
        self._frames, self._begins, self._lengths = array("q"), array("q"), array("q")
        self._order: tuple[Any, Any] | None = None
        self._size: Size | None = None
        self._largest_id = 0

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Add result lines. Lines without objects, such as errors, are skipped."""
        for line in lines:
            fields = orjson.loads(line)
            if "objects" not in fields:
                continue
            self._frames.append(fields["frame"] if "frame" in fields else fields["slice"])
            self._begins.append(self._file.tell())
            self._lengths.append(len(line))
            self._file.write(line)
            self._size = self._size or Size(fields["height"], fields["width"])
            self._largest_id = max([self._largest_id, *(item["object_id"] for item in fields["objects"])])
        self._order = None

    @property
    def frame_numbers(self) -> list[int]:
        """The frames that have lines, ascending."""
        frames: list[int] = np.unique(np.array(self._frames, np.int64)).tolist()
        return frames

    @property
    def size(self) -> Size:
        """The size of a frame. There must be at least one line."""
        assert self._size is not None
        return self._size

    def frames_with_objects(self) -> list[int]:
        """Return the frames with objects on them, ascending."""
        return [
            frame for frame in self.frame_numbers if any(item["area"] for item in self.get_objects(frame))
        ]

    @property
    def dtype(self) -> type[np.uint16 | np.uint32]:
        """The smaller type that holds every object_id. Raises TooLarge if none does."""
        if self._largest_id > MAX_UINT32_ID:
            raise TooLarge(
                f"There are object_ids up to {self._largest_id}, and label maps hold {MAX_UINT32_ID}.",
                field="format",
                remedy="Ask for format 'ndjson' or 'coco'.",
            )
        return np.uint16 if self._largest_id <= MAX_UINT16_ID else np.uint32

    def get_objects(self, frame: int) -> list[ResultObject]:
        """Return the objects on a frame, by object_id; none if it has no line."""
        if self._order is None:
            frames = np.array(self._frames, np.int64)
            order = np.argsort(frames, kind="stable")
            self._order = order, frames[order]
        order, frames = self._order
        begin, end = np.searchsorted(frames, [frame, frame + 1])
        objects: dict[int, ResultObject] = {}
        for number in order[begin:end].tolist():
            self._file.seek(self._begins[number])
            for item in orjson.loads(self._file.read(self._lengths[number]))["objects"]:
                objects[item["object_id"]] = item
        return [objects[object_id] for object_id in sorted(objects)]

    def build_label_map(self, frame: int, size: Size) -> Labels:
        """Return the label map [H, W] of a frame: object_ids, and 0 for the background.

        Where objects overlap, the smaller one is on top.

        Raises TooLarge, and BadInput if a mask is not of `size`.
        """
        objects = [
            (item["object_id"], item["mask"]["counts"], item["area"]) for item in self.get_objects(frame)
        ]
        return label_map.from_rle(objects, size, self.dtype)

    def close(self) -> None:
        self._file.close()
