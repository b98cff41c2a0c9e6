"""What is remembered of one object, what a frame looks back at, and what can be forgotten.

The rules are those of `sam2`'s SAM2VideoPredictor. The prompted frames are always looked back at, all of them (or the
closest, where the network's `max_cond_frames_in_attn` says so); of the others the memories of the last few, and the
pointers of some more. Beyond that reach an object leaves nothing behind, so what is kept does not grow with the video,
only with the number of prompted frames.
"""

from dataclasses import dataclass, field
from typing import Any

from sam2.modeling.sam2_utils import select_closest_cond_frames
from torch import Tensor


@dataclass(frozen=True)
class MemoryReach:
    """How far a network looks back. count: frames of the video. memories: of tracked frames, `stride` apart.
    pointers: frames whose pointer is seen. prompted: frames at most, -1 for all of them. past_only: no pointers of
    prompted frames that are still to come. signed: such a one is at a negative distance."""

    count: int
    memories: int
    stride: int
    pointers: int
    prompted: int
    past_only: bool
    signed: bool

    @classmethod
    def from_network(cls, network: Any, count: int) -> "MemoryReach":
        """network: a SAM2Base. count: frames of the video."""
        seen = min(count, network.max_obj_ptrs_in_encoder) if network.use_obj_ptrs_in_encoder else 0
        return cls(
            count=count,
            memories=network.num_maskmem - 1,
            stride=network.memory_temporal_stride_for_eval,
            pointers=seen,
            prompted=network.max_cond_frames_in_attn,
            past_only=network.only_obj_ptrs_in_the_past_for_eval,
            signed=network.use_signed_tpos_enc_to_obj_ptrs,
        )

    def memory_frame(self, frame: int, back: int, sign: int) -> int:
        """The frame of the memory that is `back` places before `frame`: the last one, then every stride-th. sign: -1
        where time runs backwards."""
        now = frame * sign
        if back == 1:
            return sign * (now - 1)
        return sign * ((now - 2) // self.stride - (back - 2)) * self.stride


@dataclass
class FrameMemory:
    """What one object left on one frame. pointer: [C]. features: [c, g, g] bfloat16, None once out of reach. logits:
    low-res [h, h] float32, None where no prompt can build on them any more. score: 0 to 1."""

    pointer: Tensor
    features: Tensor | None
    logits: Tensor | None
    score: float


@dataclass(frozen=True)
class FrameClicks:
    """On one frame. points: [1, N, 2] float32, pixels of the network's input. labels: [1, N] int32; 2 and 3 are a box's
    corners."""

    points: Tensor
    labels: Tensor


@dataclass(frozen=True)
class MemoryContext:
    """What one object on one frame looks back at. memories: with their place in time, 0 for prompted frames. pointers:
    with their distance in frames."""

    memories: list[tuple[int, Tensor]]
    pointers: list[tuple[int, Tensor]]

    @property
    def shape(self) -> tuple[int, int]:
        """Objects of one shape can look back together."""
        return len(self.memories), len(self.pointers)


@dataclass
class MemoryBank:
    """One object's memories by frame. pending: of prompts that count from the next tracked frame on."""

    prompted: dict[int, FrameMemory] = field(default_factory=dict)
    tracked: dict[int, FrameMemory] = field(default_factory=dict)
    pending: dict[int, FrameMemory] = field(default_factory=dict)
    clicks: dict[int, FrameClicks] = field(default_factory=dict)

    def get_latest(self, frame: int) -> FrameMemory | None:
        """The last answer on a frame."""
        return self.pending.get(frame) or self.prompted.get(frame) or self.tracked.get(frame)

    def get_answer(self, frame: int) -> FrameMemory:
        """Of a frame that was tracked or passed."""
        return self.prompted.get(frame) or self.tracked[frame]

    def commit_pending(self) -> None:
        self.prompted.update(self.pending)
        for frame in self.pending:
            self.tracked.pop(frame, None)
        self.pending.clear()

    def build_context(self, frame: int, reach: MemoryReach, *, reverse: bool) -> MemoryContext:
        sign = -1 if reverse else 1
        chosen, others = select_closest_cond_frames(frame, self.prompted, reach.prompted)
        memories = [(0, memory.features) for memory in chosen.values()]
        for place in range(1, reach.memories + 1):
            then = reach.memory_frame(frame, reach.memories + 1 - place, sign)
            memory = self.tracked.get(then) or others.get(then)
            if memory is not None and memory.features is not None:
                memories.append((place, memory.features))
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

    def drop_unreachable(self, reach: MemoryReach, position: int, origin: int) -> None:
        """Keep what can be seen from around `position`, where tracking goes on, and from around `origin`, where it
        began and may begin again the other way."""
        for frame, memory in list(self.tracked.items()):
            distance = min(abs(frame - position), abs(frame - origin))
            if distance >= max(reach.pointers, reach.memories * reach.stride + 1):
                del self.tracked[frame]
                continue
            if distance > reach.memories * reach.stride:
                memory.features = None
            if frame != position:
                memory.logits = None
