"""SAM 2's network, one step at a time: encode a frame, look back, decode, remember.

Nothing here knows of sessions: objects come as batches, and the frame that they share comes once. The steps compute
what `sam2`'s SAM2Base computes in `track_step`, for many objects together where it has one. Holes in masks are not
filled: sam2 does that by a CUDA extension of its own, and skips it where that was not built.
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
from segserve.models.bundle import Bundle
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.models.networks.sam2 import SAM2_CONFIGS, build_sam2_network
from segserve.models.weights import PROMPTABLE_NETWORK, read_weights
from segserve.sam2_memory.memory_bank import FrameClicks, MemoryContext
from segserve.types import Bool, Device, UInt8

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as sam2.utils.misc.load_video_frames
LOGIT_LIMIT = 32.0  # of a mask that is fed back, as sam2 clamps it
# Objects that look back together. On a CPU it saves nothing, and one by one the results are the library's bit by bit.
MAX_BATCH = {Device.CPU: 1, Device.CUDA: 8}
ARCHITECTURES = {f"hiera_{variant}": variant for variant in SAM2_CONFIGS}


@dataclass(frozen=True)
class EncodedFrame:
    """A frame. features, positions: [g * g, 1, C]. fine: [1, C / 8, 4g, 4g] and [1, C / 4, 2g, 2g]."""

    features: Tensor
    positions: Tensor
    fine: list[Tensor]


@dataclass(frozen=True)
class DecodedMasks:
    """Of n objects. candidates: low-res logits [n, k, 4g, 4g] float32. chosen: [n], which of them is the answer.
    pointers: [n, C]. present: [n, 1], positive where the object is on the frame. scores: [n], predicted IoU."""

    candidates: Tensor
    chosen: Tensor
    pointers: Tensor
    present: Tensor
    scores: Tensor

    def select_chosen(self, candidates: Tensor) -> Tensor:
        """[n, k, h, w] -> [n, 1, h, w]."""
        rows = torch.arange(len(self.chosen), device=self.chosen.device)
        return candidates[rows, self.chosen][:, None]


class Sam2VideoNetwork:
    """network: a `sam2.modeling.sam2_base.SAM2Base`. model: what its states are marked with. Used by one thread at a
    time."""

    def __init__(self, network: Any, *, model: str = "", device: Device = Device.CPU) -> None:
        self.network = network.to(device.value).eval()
        self.model, self.device = model, device
        self.size: int = network.image_size
        self.max_batch = MAX_BATCH[device]
        self._grid: int = network.sam_image_embedding_size
        self._mean, self._std = (
            torch.tensor(v, dtype=torch.float32, device=device.value)[:, None, None] for v in (MEAN, STD)
        )

    @classmethod
    def load(
        cls, bundle: Bundle, *, device: Device = Device.CPU, threads: int = 1, image_size: int | None = None
    ) -> "Sam2VideoNetwork":
        """From a bundle's weights. On CUDA it computes in bfloat16 where torch's autocast does, on a CPU in float32
        with so many threads, of the whole process: with another number the last bits may differ.

        image_size: edge of the square that frames are resized to, a multiple of 32; None: 1024, as published. Raises
        BadInput for a model that cannot do this or kept no weights, or a device that is not there; BrokenModel.
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
        network = build_sam2_network(ARCHITECTURES[manifest.architecture], image_size=image_size)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise BrokenModel(
                f"The weights of bundle {bundle.name!r} are not those of {manifest.architecture}.",
                remedy="Import the model again.",
            ) from error
        torch.set_num_threads(threads)
        return cls(network, model=bundle.digest, device=device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        cuda = self.device is Device.CUDA
        with torch.inference_mode(), torch.autocast(self.device.value, torch.bfloat16, enabled=cuda):
            yield

    def encode(self, rgb: UInt8) -> EncodedFrame:
        """rgb: [H, W, 3]."""
        resized = np.asarray(Image.fromarray(rgb).resize((self.size, self.size))) / 255.0
        image = torch.from_numpy(resized).permute(2, 0, 1).float().to(self.device.value)
        found = self.network.forward_image(((image - self._mean) / self._std)[None])
        *fine, features = found["backbone_fpn"][-3:]
        positions = found["vision_pos_enc"][-1]
        return EncodedFrame(flatten_features(features), flatten_features(positions), fine)

    def condition_without_memory(self, encoded: EncodedFrame) -> Tensor:
        """A frame seen without looking back: [1, C, g, g]."""
        return self.network._prepare_memory_conditioned_features(
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
        """A frame as each of n objects sees it after what it remembers: [n, C, g, g]. contexts: of one shape.
        pointers: the most frames whose pointers could be seen, by which distances are measured."""
        count = len(contexts)
        memory, places = (
            torch.stack(part, 1) for part in zip(*(self._recall(c, pointers) for c in contexts), strict=True)
        )
        seen = self.network.memory_attention(
            curr=encoded.features.expand(-1, count, -1),
            curr_pos=encoded.positions.expand(-1, count, -1),
            memory=memory,
            memory_pos=places,
            num_obj_ptr_tokens=len(contexts[0].pointers) * (self.network.hidden_dim // self.network.mem_dim),
        )
        return seen.permute(1, 2, 0).unflatten(2, (self._grid, self._grid))

    def _recall(self, context: MemoryContext, pointers: int) -> tuple[Tensor, Tensor]:
        """What one object looks back at, and where that lies in space and time: both [L, c]."""
        network = self.network
        width = network.mem_dim
        spatial = network.memory_encoder.position_encoding(
            torch.empty(1, 1, self._grid, self._grid, device=self.device.value)
        )
        in_space = flatten_features(spatial)[:, 0]
        memory = [features.flatten(1).T.float() for _, features in context.memories]
        places = [
            in_space + network.maskmem_tpos_enc[network.num_maskmem - place - 1, 0]
            for place, _ in context.memories
        ]
        if context.pointers:
            distances, seen = zip(*context.pointers, strict=True)
            parts = network.hidden_dim // width
            memory.append(torch.stack(seen).float().reshape(-1, width))
            in_time = torch.zeros(len(seen), width, device=self.device.value)
            if network.add_tpos_enc_to_obj_ptrs:
                steps = torch.tensor(distances, device=self.device.value) / max(1, pointers - 1)
                dim = network.hidden_dim if network.proj_tpos_enc_in_obj_ptrs else width
                in_time = network.obj_ptr_tpos_proj(get_1d_sine_pe(steps, dim=dim))
            places.append(in_time.repeat_interleave(parts, dim=0))
        return torch.cat(memory), torch.cat(places)

    def decode(
        self,
        encoded: EncodedFrame,
        seen: Tensor,
        *,
        initial: bool = False,
        clicks: FrameClicks | None = None,
        prior: Tensor | None = None,
        first: bool = False,
    ) -> DecodedMasks:
        """seen: [n, C, g, g]. initial: seen without looking back. clicks, prior [1, 1, 4g, 4g]: of a single object.
        first: answer with the first of the three candidates, otherwise as sam2: with the best of them where there is at
        most one click, else with the single mask, or the best of them where that is not stable."""
        network, count = self.network, len(seen)
        if clicks is None:  # a click that is none, as SAM pads them
            points = torch.zeros(count, 1, 2, device=seen.device)
            clicks = FrameClicks(points, torch.full((count, 1), -1, dtype=torch.int32, device=seen.device))
            many = network._use_multimask(initial, None)
        else:
            many = first or network._use_multimask(initial, {"point_labels": clicks.labels})
        if prior is not None:
            prior = prior.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        sparse, dense = network.sam_prompt_encoder((clicks.points, clicks.labels), boxes=None, masks=prior)
        logits, scores, tokens, present = network.sam_mask_decoder(
            image_embeddings=seen,
            image_pe=network.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=many,
            repeat_image=False,
            high_res_features=encoded.fine,
        )
        rows = torch.arange(count, device=seen.device)
        best = torch.zeros_like(rows) if first else scores.argmax(dim=1)
        appears = present > 0
        pointers = network.obj_ptr_proj(tokens[rows, best if tokens.shape[1] > 1 else 0])
        there = present.sigmoid() if network.soft_no_obj_ptr else appears.float()
        if network.fixed_no_obj_ptr:
            pointers = there * pointers
        return DecodedMasks(
            torch.where(appears[..., None, None], logits.float(), NO_OBJ_SCORE),
            best,
            pointers + (1 - there) * network.no_obj_ptr,
            present,
            torch.where(appears[:, 0], scores[rows, best].float(), 0.0),
        )

    def use_mask_as_output(self, encoded: EncodedFrame, mask: Bool) -> DecodedMasks:
        """A mask [H, W] taken as the answer on its frame; its score is 1, or 0 where it is empty."""
        given = torch.from_numpy(mask).float()[None, None].to(self.device.value)
        if mask.shape != (self.size, self.size):
            size = (self.size, self.size)
            given = F.interpolate(given, size, mode="bilinear", align_corners=False, antialias=True)
            given = (given >= 0.5).float()
        features = encoded.features.permute(1, 2, 0).unflatten(2, (self._grid, self._grid))
        logits, *_, pointers, present = self.network._use_mask_as_output(features, encoded.fine, given)
        only = torch.zeros(1, dtype=torch.int64, device=given.device)
        return DecodedMasks(logits, only, pointers, present, (present[:, 0] > 0).float())

    def encode_memory(self, encoded: EncodedFrame, decoded: DecodedMasks, *, prompted: bool) -> Tensor:
        """What later frames look back at: [n, c, g, g] bfloat16. prompted: the masks count as certain."""
        # Rounding depends on how many channels are upscaled at once, so this is done in sam2's order.
        given = decoded.select_chosen(decoded.candidates) if prompted else decoded.candidates
        large = F.interpolate(given, (self.size, self.size), mode="bilinear", align_corners=False)
        features, _ = self.network._encode_new_memory(
            current_vision_feats=[encoded.features],
            feat_sizes=[(self._grid, self._grid)],
            pred_masks_high_res=large if prompted else decoded.select_chosen(large),
            object_score_logits=decoded.present,
            is_mask_from_pts=prompted,
        )
        return features.to(torch.bfloat16)


def flatten_features(features: Tensor) -> Tensor:
    """[n, C, h, w] -> [h * w, n, C]."""
    return features.flatten(2).permute(2, 0, 1)
