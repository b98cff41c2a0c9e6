"""The memory bank of one object: its memories by frame, which of them a frame attends to, and which are dropped.

The rules are those of `sam2`'s SAM2VideoPredictor. A frame always attends to the prompted frames: to all of them, or to
the closest if the network's `max_cond_frames_in_attn` says so. Of the other frames it attends to the memories of the
last few, and to the object pointers of some more. Everything beyond that reach is dropped. So the bank does not grow
with the video, only with the number of prompted frames.
"""

from dataclasses import dataclass, field
from typing import Any

from sam2.modeling.sam2_utils import select_closest_cond_frames
from torch import Tensor


@dataclass(frozen=True)
class MemoryReach:
    """How far back in time a network attends.

    count: frames of the video.
    memories: tracked frames whose memories are attended to.
    stride: distance between these frames.
    pointers: frames whose object pointers are attended to.
    prompted: prompted frames at most; -1: all.
    past_only: True if pointers of prompted frames that are still to come are left out.
    signed: True if a frame that is still to come has a negative distance.
    """

    count: int
    memories: int
    stride: int
    pointers: int
    prompted: int
    past_only: bool
    signed: bool

    @classmethod
    def from_network(cls, network: Any, count: int) -> "MemoryReach":
        """network: a `SAM2Base`. count: frames of the video."""
        pointers = min(count, network.max_obj_ptrs_in_encoder) if network.use_obj_ptrs_in_encoder else 0
        return cls(
            count=count,
            memories=network.num_maskmem - 1,
            stride=network.memory_temporal_stride_for_eval,
            pointers=pointers,
            prompted=network.max_cond_frames_in_attn,
            past_only=network.only_obj_ptrs_in_the_past_for_eval,
            signed=network.use_signed_tpos_enc_to_obj_ptrs,
        )

    def memory_frame(self, frame: int, back: int, sign: int) -> int:
        """Return the frame of the memory `back` steps before `frame`: the last frame, then every stride-th.

        sign: 1, or -1 if time runs backwards.
        """
        now = frame * sign
        if back == 1:
            return sign * (now - 1)
        return sign * ((now - 2) // self.stride - (back - 2)) * self.stride


@dataclass
class FrameMemory:
    """The memory of one object on one frame.

    pointer: [C], the object pointer.
    features: [c, g, g] bfloat16, the memory features; None once they are out of reach.
    logits: [h, h] float32, low resolution; None once no prompt can build on them any more.
    score: 0 to 1.
    """

    pointer: Tensor
    features: Tensor | None
    logits: Tensor | None
    score: float


@dataclass(frozen=True)
class FrameClicks:
    """The clicks for one object on one frame.

    points: [1, N, 2] float32, (x, y) in pixels of the network's input.
    labels: [1, N] int32: 1 positive, 0 negative, 2 and 3 the corners of a box.
    """

    points: Tensor
    labels: Tensor


@dataclass(frozen=True)
class MemoryContext:
    """What one object on one frame attends to.

    memories: (position in time, features); position 0 is a prompted frame, and the last frame has the highest.
    pointers: (distance in frames, pointer).
    """

    memories: list[tuple[int, Tensor]]
    pointers: list[tuple[int, Tensor]]

    @property
    def shape(self) -> tuple[int, int]:
        """(memories, pointers). Objects with contexts of one shape can be computed as one batch."""
        return len(self.memories), len(self.pointers)


@dataclass
class MemoryBank:
    """The memories of one object, by frame.

    prompted: of frames with prompts.
    tracked: of other frames.
    pending: of prompts that count from the next tracked frame on.
    clicks: all clicks on a frame.
    """

    prompted: dict[int, FrameMemory] = field(default_factory=dict)
    tracked: dict[int, FrameMemory] = field(default_factory=dict)
    pending: dict[int, FrameMemory] = field(default_factory=dict)
    clicks: dict[int, FrameClicks] = field(default_factory=dict)

    def get_latest(self, frame: int) -> FrameMemory | None:
        """Return the latest memory of a frame, if there is one."""
        return self.pending.get(frame) or self.prompted.get(frame) or self.tracked.get(frame)

    def get_answer(self, frame: int) -> FrameMemory:
        """Return the memory of a frame that tracking has come to."""
        return self.prompted.get(frame) or self.tracked[frame]

    def commit_pending(self) -> None:
        """Make prompts count that were added since the last tracked frame."""
        self.prompted.update(self.pending)
        for frame in self.pending:
            self.tracked.pop(frame, None)
        self.pending.clear()

    def build_context(self, frame: int, reach: MemoryReach, *, reverse: bool) -> MemoryContext:
        """Return what a frame attends to. reverse: True if time runs backwards."""
        sign = -1 if reverse else 1
        chosen, others = select_closest_cond_frames(frame, self.prompted, reach.prompted)
        memories = [(0, memory.features) for memory in chosen.values()]
        for position in range(1, reach.memories + 1):
            then = reach.memory_frame(frame, reach.memories + 1 - position, sign)
            memory = self.tracked.get(then) or others.get(then)
            if memory is not None and memory.features is not None:
                memories.append((position, memory.features))
        pointers = []
        for then, memory in chosen.items():
            distance = (frame - then) * sign
            if distance >= 0 or not reach.past_only:
                pointers.append((distance if reach.signed else abs(distance), memory.pointer))
        for distance in range(1, reach.pointers):
            then = frame - distance * sign
            memory = self.tracked.get(then) or others.get(then)
            if 0 <= then < reach.count and memory is not None:
                pointers.append((distance, memory.pointer))
        return MemoryContext(memories, pointers)

    def drop_unreachable(self, reach: MemoryReach, last_frame: int, pass_start: int) -> None:
        """Drop memories that no frame near `last_frame` or near `pass_start` can attend to.

        Tracking goes on from `last_frame`. It may begin again at `pass_start`, in the other direction.
        """
        for frame, memory in list(self.tracked.items()):
            distance = min(abs(frame - last_frame), abs(frame - pass_start))
            if distance >= max(reach.pointers, reach.memories * reach.stride + 1):
                del self.tracked[frame]
                continue
            if distance > reach.memories * reach.stride:
                memory.features = None
            if frame != last_frame:
                memory.logits = None
