"""Objects followed through one video, from prompts, by SAM 2's memory.

What it answers is what `sam2`'s SAM2VideoPredictor answers on the same frames, forward and then in reverse, with its
`add_all_frames_to_correct_as_cond`: each prompted frame is a conditioning frame, as in SAM 2's training. (Without it a
correction is overwritten when its frame is tracked again.) What differs is what is kept: no frames, no masks at the
video's size, and of each object only what `MemoryBank` says.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segserve.errors import BadInput
from segserve.masks.crop import empty_crop, from_mask
from segserve.sam2_memory.memory_bank import FrameClicks, FrameMemory, MemoryBank, MemoryContext, MemoryReach
from segserve.sam2_memory.network_steps import DecodedMasks, EncodedFrame, Sam2VideoNetwork
from segserve.types import Bool, Crop, Prompt, SegmentedObject, Select, Size, UInt8

BOX_LABELS = (2, 3)  # SAM's, of its corners


class Sam2Session:
    """size: of the frames. count: of the frames; distances in time are measured by it where there are few. Used by one
    thread at a time.

    A frame is encoded once for all prompts on it and for tracking it, if no other comes between them.
    """

    def __init__(self, tracker: Sam2VideoNetwork, size: Size, count: int) -> None:
        self.size, self.count = size, count
        self.banks: dict[int, MemoryBank] = {}
        self.origin: int | None = None  # where the pass began that goes on
        self.position: int | None = None  # the frame tracked last
        self.reverse = False
        self.tracker = tracker
        self.reach = MemoryReach.from_network(tracker.network, count)
        self._encoded: tuple[int, EncodedFrame] | None = None

    def add_prompt(
        self, frame: int, rgb: UInt8, object_id: int, prompt: Prompt, select: Select = Select.BEST
    ) -> SegmentedObject:
        """A prompt for an object, known or new: its mask on this frame, and its score.

        frame: from 0. rgb: [H, W, 3]. prompt: in pixels of the frame; a mask is taken as the answer, and clicks
        with or after it refine it. Several prompts on one frame add up, their last answer given back to the network as
        logits; a box begins again. On the frame that was tracked last a prompt corrects what was found, with what the
        object remembers; on any other it says what the object is there without looking back. Raises BadInput.
        """
        self._check(frame, rgb)
        self._check_prompt(prompt, select)
        bank = self.banks.get(object_id, MemoryBank())
        encoded = self._encode(frame, rgb)
        with self.tracker.inference():
            if prompt.mask is not None:
                bank.clicks.pop(frame, None)
                decoded = self.tracker.use_mask_as_output(encoded, prompt.mask)
                bank.pending[frame] = self._memories(encoded, decoded, prompted=True)[0]
            if prompt.box is not None or len(prompt.points):
                bank.clicks[frame] = self._clicks(prompt, bank.clicks.get(frame))
                decoded = self._click(bank, frame, encoded, first=select is Select.FIRST)
                bank.pending[frame] = self._memories(encoded, decoded, prompted=True)[0]
            self.banks[object_id] = bank
            return self._object(bank.pending[frame])

    def track(self, frame: int, rgb: UInt8, *, reverse: bool = False) -> dict[int, SegmentedObject]:
        """Every object's mask and score on this frame; on a frame where it was prompted the prompt's answer.

        Score: the IoU that SAM 2 predicts for its mask, 0 where it holds that the object is not on the frame (the mask
        is empty then). rgb: [H, W, 3]. reverse: time runs backwards, the frame before was this one's successor. Raises
        BadInput.
        """
        self._check(frame, rgb)
        self._move(frame, reverse)
        for bank in self.banks.values():
            bank.commit_pending()
        with self.tracker.inference():
            for together in self._groups(frame):
                encoded = self._encode(frame, rgb)
                seen = self.tracker.condition_on_memory(
                    encoded, [c for _, c in together], self.reach.pointers
                )
                decoded = self.tracker.decode(encoded, seen)
                memories = self._memories(encoded, decoded, prompted=False)
                for (bank, _), memory in zip(together, memories, strict=True):
                    bank.tracked[frame] = memory
            for bank in self.banks.values():
                bank.drop_unreachable(self.reach, frame, frame if self.origin is None else self.origin)
            return {object_id: self._object(bank.get_answer(frame)) for object_id, bank in self.banks.items()}

    def _move(self, frame: int, reverse: bool) -> None:
        step = -1 if reverse else 1
        goes_on = reverse == self.reverse and self.position in (frame, frame - step)
        if not goes_on:
            self.origin = frame
        self.position, self.reverse = frame, reverse

    def _groups(self, frame: int) -> Iterator[list[tuple[MemoryBank, MemoryContext]]]:
        """Objects that have to look back, so many together as the device takes, each group of one shape."""
        shapes = defaultdict(list)
        for bank in self.banks.values():
            if frame not in bank.prompted:
                context = bank.build_context(frame, self.reach, reverse=self.reverse)
                shapes[context.shape].append((bank, context))
        most = self.tracker.max_batch
        for found in shapes.values():
            for start in range(0, len(found), most):
                yield found[start : start + most]

    def _click(self, bank: MemoryBank, frame: int, encoded: EncodedFrame, *, first: bool) -> DecodedMasks:
        corrected = frame == self.position and (frame in bank.tracked or frame in bank.prompted)
        if corrected:
            context = bank.build_context(frame, self.reach, reverse=self.reverse)
            seen = self.tracker.condition_on_memory(encoded, [context], self.reach.pointers)
        else:
            seen = self.tracker.condition_without_memory(encoded)
        last = bank.get_latest(frame)
        prior = None
        if last is not None and last.logits is not None:
            prior = last.logits[None, None]
        return self.tracker.decode(
            encoded, seen, initial=not corrected, clicks=bank.clicks[frame], prior=prior, first=first
        )

    def _clicks(self, prompt: Prompt, before: FrameClicks | None) -> FrameClicks:
        """In the network's pixels, a box first, after those that were there unless a box begins again."""
        points, labels = [prompt.points], [prompt.labels]
        if prompt.box is not None:
            box = prompt.box
            points.insert(0, np.array([[box.x0, box.y0], [box.x1, box.y1]], np.float32))
            labels.insert(0, np.array(BOX_LABELS))
        extent = torch.tensor([self.size.width, self.size.height])
        placed = torch.from_numpy(np.concatenate(points).astype(np.float32)) / extent * self.tracker.size
        new = FrameClicks(placed[None], torch.from_numpy(np.concatenate(labels).astype(np.int32))[None])
        new = FrameClicks(*(part.to(self.tracker.device.value) for part in (new.points, new.labels)))
        if before is None or prompt.box is not None:
            return new
        return FrameClicks(
            torch.cat([before.points, new.points], 1), torch.cat([before.labels, new.labels], 1)
        )

    def _encode(self, frame: int, rgb: UInt8) -> EncodedFrame:
        if self._encoded is None or self._encoded[0] != frame:
            self._encoded = None
            with self.tracker.inference():
                self._encoded = frame, self.tracker.encode(rgb)
        return self._encoded[1]

    def _memories(self, encoded: EncodedFrame, decoded: DecodedMasks, *, prompted: bool) -> list[FrameMemory]:
        """One for each object of the batch; clones, or all of the batch would live as long as any of it."""
        features = self.tracker.encode_memory(encoded, decoded, prompted=prompted)
        logits = decoded.select_chosen(decoded.candidates)
        return [
            FrameMemory(decoded.pointers[i].clone(), features[i].clone(), logits[i, 0].clone(), score)
            for i, score in enumerate(decoded.scores.tolist())
        ]

    def _object(self, memory: FrameMemory) -> SegmentedObject:
        assert memory.logits is not None, "that of the frame at hand is kept"
        return SegmentedObject(mask_from_logits(memory.logits, self.size), memory.score)

    def _check(self, frame: int, rgb: UInt8) -> None:
        if not 0 <= frame < self.count:
            raise BadInput(
                f"There is no frame {frame}.",
                field="frame",
                remedy=f"There are {self.count}, counted from 0.",
            )
        if rgb.shape != (self.size.height, self.size.width, 3):
            raise BadInput(
                f"Frame {frame} is of shape {rgb.shape}.",
                field="file",
                remedy=f"Send RGB frames of one size, {self.size.height} x {self.size.width} (height x width).",
            )

    def _check_prompt(self, prompt: Prompt, select: Select) -> None:
        if prompt.logits is not None or prompt.mask_id is not None:
            raise BadInput(
                "Logits of an image say nothing of a video.", field="prompt", remedy="Send the mask itself."
            )
        if prompt.mask is None and prompt.box is None and not len(prompt.points):
            raise BadInput("The prompt is empty.", field="prompt", remedy="Send points, a box or a mask.")
        if prompt.mask is not None and prompt.mask.shape != (self.size.height, self.size.width):
            height, width = prompt.mask.shape
            raise BadInput(
                f"The mask is {height} x {width} (height x width).",
                field="prompt.mask",
                remedy=f"Send a mask of the frames' size, {self.size.height} x {self.size.width}.",
            )
        if select is Select.ALL:
            raise BadInput(
                "An object has one mask on a frame.", field="select", remedy="Take 'best' or 'first'."
            )


def mask_from_logits(logits: Tensor, size: Size) -> Crop:
    """Low-res logits [h, h] as the mask at the video's size, where they are positive after bilinear upscaling."""
    if not (logits > 0).any():  # what is between values that are not positive is not
        return empty_crop(size)
    target = (size.height, size.width)
    full = F.interpolate(logits[None, None], target, mode="bilinear", align_corners=False)[0, 0] > 0
    mask: Bool = full.cpu().numpy()
    found = from_mask(mask)
    return replace(found, pixels=found.pixels.copy())
