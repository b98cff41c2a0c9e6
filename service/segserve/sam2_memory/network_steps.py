"""The steps of SAM 2's network: image encoder, memory attention, mask decoder, memory encoder.

Nothing here knows sessions. Objects come as a batch, and the frame that they share comes once. The steps compute what
`sam2`'s SAM2Base computes in `track_step`, for a batch of objects where SAM2Base has one object. Holes in masks are not
filled: sam2 does that in its own CUDA extension, and skips it if the extension was not built.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sam2.modeling.sam2_base import NO_OBJ_SCORE
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import PROMPTABLE_NETWORK, Bundle
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.models.networks.sam2 import SAM2_CONFIGS, build_sam2_network
from segserve.models.weights import read_weights
from segserve.sam2_memory.memory_bank import FrameClicks, MemoryContext
from segserve.types import Bool, Device, UInt8

# Normalization of RGB values from 0 to 1, as `sam2.utils.misc.load_video_frames` has it.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Logits of a mask that is fed back are clamped to +-32, as sam2 does.
MAX_PRIOR_LOGIT = 32.0

# Objects computed as one batch. On a CPU a batch saves no time, and without one the results equal the library's bit by
# bit.
MAX_BATCH = {Device.CPU: 1, Device.CUDA: 8}
ARCHITECTURES = {f"hiera_{variant}": variant for variant in SAM2_CONFIGS}


@dataclass(frozen=True)
class EncodedFrame:
    """An encoded frame, on a grid of g x g.

    features, positions: [g * g, 1, C].
    fine: high-resolution features, [1, C / 8, 4g, 4g] and [1, C / 4, 2g, 2g].
    """

    features: Tensor
    positions: Tensor
    fine: list[Tensor]


@dataclass(frozen=True)
class DecodedMasks:
    """The masks of n objects on a frame.

    candidates: [n, k, 4g, 4g] float32, low-resolution logits of the k candidates.
    chosen: [n], the index of the candidate that is the answer.
    pointers: [n, C], object pointers.
    present: [n, 1], positive where the object is on the frame.
    scores: [n], predicted IoU.
    """

    candidates: Tensor
    chosen: Tensor
    pointers: Tensor
    present: Tensor
    scores: Tensor

    def select_chosen(self, candidates: Tensor) -> Tensor:
        """Return the chosen candidate of each object. candidates: [n, k, h, w]; returns [n, 1, h, w]."""
        rows = torch.arange(len(self.chosen), device=self.chosen.device)
        return candidates[rows, self.chosen][:, None]


class Sam2VideoNetwork:
    """`Sam2VideoNetwork` runs the steps. It may be used by one thread at a time.

    sam2: a `sam2.modeling.sam2_base.SAM2Base`.
    model: the digest by which saved sessions know their model.
    """

    def __init__(self, sam2: Any, *, model: str = "", device: Device = Device.CPU) -> None:
        self.sam2 = sam2.to(device.value).eval()
        self.model, self.device = model, device
        self.image_size: int = sam2.image_size
        self.max_batch = MAX_BATCH[device]
        self._grid: int = sam2.sam_image_embedding_size
        self._mean, self._std = (
            torch.tensor(v, dtype=torch.float32, device=device.value)[:, None, None] for v in (MEAN, STD)
        )

    @classmethod
    def load(
        cls, bundle: Bundle, *, device: Device = Device.CPU, threads: int = 1, image_size: int | None = None
    ) -> "Sam2VideoNetwork":
        """Load the weights of a bundle.

        On CUDA the network computes in bfloat16 where torch's autocast does; on a CPU it computes in float32.

        threads: torch's threads on a CPU, for the whole process. With another number the last bits may differ.
        image_size: edge of the square that frames are resized to, in pixels, a multiple of 32; None: 1024, as
            published.

        Raises BadInput if the model has no memory or kept no weights, or if the device is not there; BrokenModel.
        """
        manifest = bundle.expect(PromptableManifest)
        if manifest.kind is not ModelKind.SAM2 or manifest.architecture not in ARCHITECTURES:
            raise BadInput(
                f"Model {bundle.name!r} ({manifest.architecture}) has no memory for video.",
                field="model",
                remedy="Take a SAM 2 model, or another engine.",
            )
        if device is Device.CUDA and not torch.cuda.is_available():
            raise BadInput("There is no CUDA device here.", field="device", remedy="Set the device to cpu.")
        weights = read_weights(bundle, purpose="for video", field="model").get(PROMPTABLE_NETWORK, {})
        sam2 = build_sam2_network(ARCHITECTURES[manifest.architecture], image_size=image_size)
        try:
            sam2.load_state_dict(weights)
        except RuntimeError as error:
            raise BrokenModel(
                f"The weights of bundle {bundle.name!r} are not those of {manifest.architecture}.",
                remedy="Import the model again.",
            ) from error
        torch.set_num_threads(threads)
        return cls(sam2, model=bundle.digest, device=device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Compute without gradients, and on CUDA in mixed precision, while the block runs."""
        cuda = self.device is Device.CUDA
        with torch.inference_mode(), torch.autocast(self.device.value, torch.bfloat16, enabled=cuda):
            yield

    def encode(self, rgb: UInt8) -> EncodedFrame:
        """Encode a frame. rgb: [H, W, 3]."""
        resized = np.asarray(Image.fromarray(rgb).resize((self.image_size, self.image_size))) / 255.0
        image = torch.from_numpy(resized).permute(2, 0, 1).float().to(self.device.value)
        output = self.sam2.forward_image(((image - self._mean) / self._std)[None])
        *fine, features = output["backbone_fpn"][-3:]
        positions = output["vision_pos_enc"][-1]
        return EncodedFrame(flatten_features(features), flatten_features(positions), fine)

    def condition_without_memory(self, encoded: EncodedFrame) -> Tensor:
        """Return the features [1, C, g, g] of a frame, as an object without memories sees it."""
        return self.sam2._prepare_memory_conditioned_features(
            frame_idx=0,
            is_init_cond_frame=True,
            current_vision_feats=[encoded.features],
            current_vision_pos_embeds=[encoded.positions],
            feat_sizes=[(self._grid, self._grid)],
            output_dict={},
            num_frames=1,
        )

    def condition_on_memory(
        self, encoded: EncodedFrame, contexts: Sequence[MemoryContext], pointers: int
    ) -> Tensor:
        """Return the features [n, C, g, g] of a frame after memory attention, for each of n objects.

        contexts: one for each object, all of one shape.
        pointers: `MemoryReach.pointers`; distances in time are divided by it.
        """
        count = len(contexts)
        memory, positions = (
            torch.stack(part, 1)
            for part in zip(*(self._encode_context(c, pointers) for c in contexts), strict=True)
        )
        conditioned = self.sam2.memory_attention(
            curr=encoded.features.expand(-1, count, -1),
            curr_pos=encoded.positions.expand(-1, count, -1),
            memory=memory,
            memory_pos=positions,
            num_obj_ptr_tokens=len(contexts[0].pointers) * (self.sam2.hidden_dim // self.sam2.mem_dim),
        )
        return conditioned.permute(1, 2, 0).unflatten(2, (self._grid, self._grid))

    def _encode_context(self, context: MemoryContext, pointers: int) -> tuple[Tensor, Tensor]:
        """Return the memory tokens of one object, and their position encodings in space and time: both [L, c]."""
        sam2 = self.sam2
        width = sam2.mem_dim
        spatial = sam2.memory_encoder.position_encoding(
            torch.empty(1, 1, self._grid, self._grid, device=self.device.value)
        )
        space_encoding = flatten_features(spatial)[:, 0]
        memory = [features.flatten(1).T.float() for _, features in context.memories]
        positions = [
            space_encoding + sam2.maskmem_tpos_enc[sam2.num_maskmem - position - 1, 0]
            for position, _ in context.memories
        ]
        if context.pointers:
            distances, pointer_tokens = zip(*context.pointers, strict=True)
            tokens_per_pointer = sam2.hidden_dim // width
            memory.append(torch.stack(pointer_tokens).float().reshape(-1, width))
            time_encoding = torch.zeros(len(pointer_tokens), width, device=self.device.value)
            if sam2.add_tpos_enc_to_obj_ptrs:
                steps = torch.tensor(distances, device=self.device.value) / max(1, pointers - 1)
                dim = sam2.hidden_dim if sam2.proj_tpos_enc_in_obj_ptrs else width
                time_encoding = sam2.obj_ptr_tpos_proj(get_1d_sine_pe(steps, dim=dim))
            positions.append(time_encoding.repeat_interleave(tokens_per_pointer, dim=0))
        return torch.cat(memory), torch.cat(positions)

    def decode(
        self,
        encoded: EncodedFrame,
        conditioned: Tensor,
        *,
        initial: bool = False,
        clicks: FrameClicks | None = None,
        prior: Tensor | None = None,
        first: bool = False,
    ) -> DecodedMasks:
        """Decode the masks of n objects.

        conditioned: [n, C, g, g], from `condition_on_memory` or `condition_without_memory`.
        initial: True for features without memory.
        clicks, prior: of a single object. prior: [1, 1, 4g, 4g], logits.
        first: answer with the first of the three candidates. Otherwise the answer is sam2's: the best of the three if
            there is at most one click, else the single mask, or the best of the three if that one is not stable.
        """
        sam2, count, device = self.sam2, len(conditioned), conditioned.device
        if clicks is None:  # one point with label -1, as SAM pads missing clicks
            points = torch.zeros(count, 1, 2, device=device)
            clicks = FrameClicks(points, torch.full((count, 1), -1, dtype=torch.int32, device=device))
            multimask = sam2._use_multimask(initial, None)
        else:
            multimask = first or sam2._use_multimask(initial, {"point_labels": clicks.labels})
        if prior is not None:
            prior = prior.clamp(-MAX_PRIOR_LOGIT, MAX_PRIOR_LOGIT)
        sparse, dense = sam2.sam_prompt_encoder((clicks.points, clicks.labels), boxes=None, masks=prior)
        logits, scores, tokens, present = sam2.sam_mask_decoder(
            image_embeddings=conditioned,
            image_pe=sam2.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=encoded.fine,
        )
        rows = torch.arange(count, device=device)
        best = torch.zeros_like(rows) if first else scores.argmax(dim=1)
        is_present = present > 0
        pointers = sam2.obj_ptr_proj(tokens[rows, best if tokens.shape[1] > 1 else 0])
        presence = present.sigmoid() if sam2.soft_no_obj_ptr else is_present.float()
        if sam2.fixed_no_obj_ptr:
            pointers = presence * pointers
        return DecodedMasks(
            torch.where(is_present[..., None, None], logits.float(), NO_OBJ_SCORE),
            best,
            pointers + (1 - presence) * sam2.no_obj_ptr,
            present,
            torch.where(is_present[:, 0], scores[rows, best].float(), 0.0),
        )

    def use_mask_as_output(self, encoded: EncodedFrame, mask: Bool) -> DecodedMasks:
        """Take a mask [H, W] as the answer on its frame. Its score is 1, or 0 if it is empty."""
        target = torch.from_numpy(mask).float()[None, None].to(self.device.value)
        size = (self.image_size, self.image_size)
        if mask.shape != size:
            target = F.interpolate(target, size, mode="bilinear", align_corners=False, antialias=True)
            target = (target >= 0.5).float()
        features = encoded.features.permute(1, 2, 0).unflatten(2, (self._grid, self._grid))
        logits, *_, pointers, present = self.sam2._use_mask_as_output(features, encoded.fine, target)
        chosen = torch.zeros(1, dtype=torch.int64, device=target.device)
        return DecodedMasks(logits, chosen, pointers, present, (present[:, 0] > 0).float())

    def encode_memory(self, encoded: EncodedFrame, decoded: DecodedMasks, *, prompted: bool) -> Tensor:
        """Return the memory features [n, c, g, g] bfloat16, which later frames attend to.

        prompted: True if the masks come from prompts and count as certain.
        """
        # Rounding depends on how many channels are upscaled at once, so candidates are chosen where sam2 chooses them.
        logits = decoded.select_chosen(decoded.candidates) if prompted else decoded.candidates
        size = (self.image_size, self.image_size)
        large = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        features, _ = self.sam2._encode_new_memory(
            current_vision_feats=[encoded.features],
            feat_sizes=[(self._grid, self._grid)],
            pred_masks_high_res=large if prompted else decoded.select_chosen(large),
            object_score_logits=decoded.present,
            is_mask_from_pts=prompted,
        )
        return features.to(torch.bfloat16)


def flatten_features(features: Tensor) -> Tensor:
    """Return features [n, C, h, w] as [h * w, n, C]."""
    return features.flatten(2).permute(2, 0, 1)
