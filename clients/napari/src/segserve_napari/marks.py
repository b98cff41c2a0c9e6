"""What is marked of an object on one slice."""

from __future__ import annotations

from dataclasses import dataclass, replace

from segserve_client import FramePrompt, Prompt


@dataclass(frozen=True)
class Marks:
    """The clicks and the box of one object. points: (x, y) in pixels of the slice. labels: 1 on the object, 0 not."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.points) or self.box is not None

    @property
    def can_be_sent(self) -> bool:
        """Whether something says where the object is: points off it alone do not."""
        return 1 in self.labels or self.box is not None

    def add_point(self, x: float, y: float, *, on_object: bool) -> Marks:
        return replace(self, points=(*self.points, (x, y)), labels=(*self.labels, int(on_object)))

    def with_box(self, x0: float, y0: float, x1: float, y1: float) -> Marks:
        return replace(self, box=(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    def to_prompt(self) -> Prompt:
        return Prompt(self.points or None, self.labels or None, self.box)

    def to_frame_prompt(self, frame: int) -> FramePrompt:
        return FramePrompt(frame, self.points or None, self.labels or None, self.box)
