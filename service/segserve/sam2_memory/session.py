"""A session: objects tracked through one video from prompts, by SAM 2's memory.

The answers equal those of `sam2`'s SAM2VideoPredictor on the same frames, forward and then in reverse, with its option
`add_all_frames_to_correct_as_cond`. With this option each prompted frame is a conditioning frame, as in SAM 2's
training; without it a correction is overwritten when its frame is tracked again.

A session keeps less than SAM2VideoPredictor: no frames, no masks at the video's size, and of each object only what
`MemoryBank` keeps.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from segserve.errors import BadInput
from segserve.masks.clean import Marks, clean_logits
from segserve.masks.crop import empty_crop, from_mask
from segserve.sam2_memory.memory_bank import FrameClicks, FrameMemory, MemoryBank, MemoryContext, MemoryReach
from segserve.sam2_memory.network_steps import DecodedMasks, EncodedFrame, Sam2VideoNetwork
from segserve.types import Bool, Crop, Prompt, SegmentedObject, Select, Size, UInt8

# SAM's labels of a box's corners: top left, bottom right.
BOX_LABELS = (2, 3)
# A part of a mask that is smaller than this share of its largest part is a speck.
MIN_PART_SHARE = 0.05


class Sam2Session:
    """`Sam2Session` adds prompts and tracks frames. It may be used by one thread at a time.

    A frame is encoded once for all its prompts and for tracking it, if no other frame comes between them.

    size: of the frames.
    count: number of frames. In short videos, distances in time are divided by it.
    raw: answer with SAM 2's own masks. Otherwise specks are removed and small holes are filled. What is remembered is
        the same.
    """

    def __init__(self, network: Sam2VideoNetwork, size: Size, count: int, *, raw: bool = True) -> None:
        self.size, self.count, self.raw = size, count, raw
        self.banks: dict[int, MemoryBank] = {}
        self.pass_start: int | None = None  # the frame where the present pass began
        self.last_frame: int | None = None  # the frame that was tracked last
        self.reverse = False
        self.network = network
        self.reach = MemoryReach.from_network(network.sam2, count)
        self._encoded: tuple[int, EncodedFrame] | None = None

    def add_prompt(
        self, frame: int, rgb: UInt8, object_id: int, prompt: Prompt, select: Select = Select.BEST
    ) -> SegmentedObject:
        """Add a prompt for a new or known object, and return its mask and score on this frame.

        frame: from 0.
        rgb: [H, W, 3].
        prompt: in pixels of the frame. A mask is taken as the answer; clicks with it or after it refine it.

        Several prompts on one frame add up: the last answer goes back into the network as logits. A box starts anew.
        On the frame that was tracked last, a prompt corrects the tracked mask, with the object's memory. On any other
        frame it defines the object without memory.

        Raises BadInput.
        """
        self._check_frame(frame, rgb)
        self._check_prompt(prompt, select)
        bank = self.banks.get(object_id, MemoryBank())
        encoded = self._encode(frame, rgb)
        with self.network.inference():
            if prompt.mask is not None:
                bank.clicks.pop(frame, None)
                decoded = self.network.use_mask_as_output(encoded, prompt.mask)
                bank.pending[frame] = self._create_memories(encoded, decoded, prompted=True)[0]
            if prompt.box is not None or len(prompt.points):
                bank.clicks[frame] = self._add_clicks(prompt, bank.clicks.get(frame))
                decoded = self._decode_clicks(bank, frame, encoded, first=select is Select.FIRST)
                bank.pending[frame] = self._create_memories(encoded, decoded, prompted=True)[0]
            self.banks[object_id] = bank
            return self._to_object(bank.pending[frame])

    def track(self, frame: int, rgb: UInt8, *, reverse: bool = False) -> dict[int, SegmentedObject]:
        """Track all objects on a frame, and return the mask and score of each, by object id.

        On a frame with a prompt for the object, the result is the answer to the prompt.

        rgb: [H, W, 3].
        reverse: True if time runs backwards: the frame that was tracked before is the next one of the video.

        The score is the IoU that SAM 2 predicts for the mask. It is 0, and the mask is empty, if SAM 2 predicts that
        the object is not on the frame.

        Raises BadInput.
        """
        self._check_frame(frame, rgb)
        self._set_position(frame, reverse)
        for bank in self.banks.values():
            bank.commit_pending()
        with self.network.inference():
            for batch in self._make_batches(frame):
                encoded = self._encode(frame, rgb)
                contexts = [context for _, context in batch]
                conditioned = self.network.condition_on_memory(encoded, contexts, self.reach.pointers)
                decoded = self.network.decode(encoded, conditioned)
                memories = self._create_memories(encoded, decoded, prompted=False)
                for (bank, _), memory in zip(batch, memories, strict=True):
                    bank.tracked[frame] = memory
            for bank in self.banks.values():
                bank.drop_unreachable(
                    self.reach, frame, frame if self.pass_start is None else self.pass_start
                )
            return {
                object_id: self._to_object(bank.get_answer(frame)) for object_id, bank in self.banks.items()
            }

    def _set_position(self, frame: int, reverse: bool) -> None:
        """Begin a new pass, unless the frame continues the present one or repeats its last frame."""
        step = -1 if reverse else 1
        continues_pass = reverse == self.reverse and self.last_frame in (frame, frame - step)
        if not continues_pass:
            self.pass_start = frame
        self.last_frame, self.reverse = frame, reverse

    def _make_batches(self, frame: int) -> Iterator[list[tuple[MemoryBank, MemoryContext]]]:
        """Yield the objects that have no prompt on the frame, in batches that the device takes, each of one shape."""
        by_shape = defaultdict(list)
        for bank in self.banks.values():
            if frame not in bank.prompted:
                context = bank.build_context(frame, self.reach, reverse=self.reverse)
                by_shape[context.shape].append((bank, context))
        max_batch = self.network.max_batch
        for objects in by_shape.values():
            for start in range(0, len(objects), max_batch):
                yield objects[start : start + max_batch]

    def _decode_clicks(
        self, bank: MemoryBank, frame: int, encoded: EncodedFrame, *, first: bool
    ) -> DecodedMasks:
        """Return the answer to the clicks on a frame. first: take the first candidate."""
        is_correction = frame == self.last_frame and (frame in bank.tracked or frame in bank.prompted)
        if is_correction:
            context = bank.build_context(frame, self.reach, reverse=self.reverse)
            conditioned = self.network.condition_on_memory(encoded, [context], self.reach.pointers)
        else:
            conditioned = self.network.condition_without_memory(encoded)
        last = bank.get_latest(frame)
        prior = None
        if last is not None and last.logits is not None:
            prior = last.logits[None, None]
        return self.network.decode(
            encoded,
            conditioned,
            initial=not is_correction,
            clicks=bank.clicks[frame],
            prior=prior,
            first=first,
        )

    def _add_clicks(self, prompt: Prompt, before: FrameClicks | None) -> FrameClicks:
        """Return the clicks `before`, then the box and points of the prompt, in pixels of the network's input.

        A prompt with a box drops the clicks before.
        """
        points, labels = [prompt.points], [prompt.labels]
        if prompt.box is not None:
            box = prompt.box
            points.insert(0, np.array([[box.x0, box.y0], [box.x1, box.y1]], np.float32))
            labels.insert(0, np.array(BOX_LABELS))
        extent = torch.tensor([self.size.width, self.size.height])
        scaled = (
            torch.from_numpy(np.concatenate(points).astype(np.float32)) / extent * self.network.image_size
        )
        new = FrameClicks(scaled[None], torch.from_numpy(np.concatenate(labels).astype(np.int32))[None])
        new = FrameClicks(*(part.to(self.network.device.value) for part in (new.points, new.labels)))
        if before is None or prompt.box is not None:
            return new
        return FrameClicks(
            torch.cat([before.points, new.points], 1), torch.cat([before.labels, new.labels], 1)
        )

    def _encode(self, frame: int, rgb: UInt8) -> EncodedFrame:
        if self._encoded is None or self._encoded[0] != frame:
            self._encoded = None
            with self.network.inference():
                self._encoded = frame, self.network.encode(rgb)
        return self._encoded[1]

    def _create_memories(
        self, encoded: EncodedFrame, decoded: DecodedMasks, *, prompted: bool
    ) -> list[FrameMemory]:
        """Return the memory of each object of a batch.

        The tensors are clones: a view would keep the whole batch alive as long as one of its objects.
        """
        features = self.network.encode_memory(encoded, decoded, prompted=prompted)
        logits = decoded.select_chosen(decoded.candidates)
        return [
            FrameMemory(decoded.pointers[i].clone(), features[i].clone(), logits[i, 0].clone(), score)
            for i, score in enumerate(decoded.scores.tolist())
        ]

    def _to_object(self, memory: FrameMemory) -> SegmentedObject:
        assert memory.logits is not None, "the logits of the present frame are kept"
        logits = memory.logits if self.raw else clean_answer(memory.logits)
        return SegmentedObject(mask_from_logits(logits, self.size), memory.score)

    def _check_frame(self, frame: int, rgb: UInt8) -> None:
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
                "Logits of an image cannot prompt a video.", field="prompt", remedy="Send the mask itself."
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


def clean_answer(logits: Tensor) -> Tensor:
    """Return low-resolution logits [h, h] without specks and small holes.

    Memory brings no marks that say which parts belong to the object, and an object behind a post has two. So all parts
    are kept but those that are small beside the largest one.
    """
    values = logits.float().cpu().numpy()
    labels, count = ndimage.label(values > 0)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    parts = (areas >= MIN_PART_SHARE * areas.max())[labels] & (labels > 0)
    return torch.from_numpy(clean_logits(values, 0.0, Marks(prior=parts)).logits)


def mask_from_logits(logits: Tensor, size: Size) -> Crop:
    """Return the mask at the video's size: where low-resolution logits [h, h] are positive after bilinear upscaling."""
    # Bilinear upscaling makes no positive value where there was none.
    if not (logits > 0).any():
        return empty_crop(size)
    target = (size.height, size.width)
    full = F.interpolate(logits[None, None], target, mode="bilinear", align_corners=False)[0, 0] > 0
    mask: Bool = full.cpu().numpy()
    mask_crop = from_mask(mask)
    return replace(mask_crop, pixels=mask_crop.pixels.copy())
