"""Automatic masks of a 32 x 32 grid: segment-anything's generator against ours, ViT-B-sized decoder, same threads.

Random weights fill the image with noise of a deviation of about 0.06. To the low-res logits of both, a steep hill is
added on the place of a lattice that is nearest to the click, so that every mask is a disc of 1% of the image, stable,
and found by several clicks. Neither encodes: both begin with the same embedding.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam
from tests.automatic.test_amg_generator import Ours, assert_same
from torch import Tensor

from bench.blobs import LOW
from bench.common import THREADS, Line, at_least
from segserve.automatic.parameters import AmgParams
from segserve.encode.prepared_cache import PreparedImage
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export import sam as exporter
from segserve.models.export.fast_decoder import FastDecoder
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import PromptableModel
from segserve.types import Region, UInt8

SIDE = 1024  # of the image and of the model's input
SHARE = 0.01  # of the image that a mask covers
PITCH = SIDE / 12  # of the lattice, in pixels
STEEP = 8.0  # logits per low-res pixel: a mask's stability is then 0.97
EVERY = AmgParams(pred_iou_thresh=0.0)  # random weights predict nothing good; all else is as by default
OURS_REPEATS = 3


def hills(clicks: Tensor) -> Tensor:
    """clicks [B, 2] in input pixels -> [B, LOW, LOW]: positive on a disc around the lattice's nearest place."""
    centres = ((clicks / PITCH).floor() + 0.5) * (PITCH * LOW / SIDE) - 0.5
    at = torch.arange(LOW, dtype=torch.float32)
    x, y = at[None, None] - centres[:, :1, None], at[None, :, None] - centres[:, 1:, None]
    radius = LOW * (SHARE / np.pi) ** 0.5
    return ((radius - (x * x + y * y).sqrt()) * STEEP).clip(-8, 8)


class RememberingPromptEncoder(PromptEncoder):
    clicks: Tensor

    def forward(self, points: Any, boxes: Any, masks: Any) -> Any:
        self.clicks = points[0][:, 0].float()
        return super().forward(points, boxes, masks)


class HillyMaskDecoder(MaskDecoder):
    clicks: Callable[[], Tensor]

    def predict_masks(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        masks, scores = super().predict_masks(*args, **kwargs)
        return masks + hills(self.clicks())[:, None], scores


class HillyFastDecoder(FastDecoder):
    def forward(self, point_coords: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
        masks, scores = super().forward(point_coords, *args)
        return masks + hills(point_coords[0, :1]), scores


def build_sam() -> Sam:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    sam.prompt_encoder.__class__, sam.mask_decoder.__class__ = RememberingPromptEncoder, HillyMaskDecoder
    sam.mask_decoder.clicks = lambda: sam.prompt_encoder.clicks
    return sam


def export(sam: Sam, folder: Path) -> Bundle:
    """A bundle of the decoders alone."""
    plain, exporter.FastDecoder = exporter.FastDecoder, HillyFastDecoder
    try:
        exporter.export_decoders(sam.prompt_encoder, sam.mask_decoder, folder, [], fp16_weights=False)
    finally:
        exporter.FastDecoder = plain
    manifest = PromptableManifest(
        name="hills",
        kind=ModelKind.SAM,
        architecture="vit_b",
        preprocess=PreprocessEntry(input_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1), resize="pad"),
        dims=Dims(embedding=(256, LOW // 4, LOW // 4), low=LOW),
        files={},
    )
    return write_manifest(folder, manifest)


class Encoded(Ours):
    """Ours, on an embedding that is at hand."""

    def __init__(self, model: PromptableModel, embedding: Tensor) -> None:
        super().__init__(model, THREADS)
        self._embedding = {"embedding": embedding[0].numpy()}

    def prepared(self, image: UInt8, region: Region) -> PreparedImage:
        return PreparedImage(region.size, self._embedding, self.model.prepare(self._embedding, None))


class Reference:
    """segment-anything's generator, on an embedding that is at hand."""

    def __init__(self, sam: Sam, embedding: Tensor) -> None:
        self._sam, self._embedding = sam, embedding

    def generate(self, image: UInt8, params: AmgParams) -> list[dict[str, Any]]:
        generator = SamAutomaticMaskGenerator(self._sam, **asdict(params), output_mode="coco_rle")
        predictor = generator.predictor

        def set_image(image: UInt8) -> None:
            predictor.features, predictor.is_image_set = self._embedding, True
            predictor.original_size = predictor.input_size = image.shape[:2]

        predictor.set_image = set_image
        return generator.generate(image)  # type: ignore[no-any-return]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
    sam, image = build_sam(), np.zeros((SIDE, SIDE, 3), np.uint8)
    embedding = torch.randn(1, 256, LOW // 4, LOW // 4, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        options = RuntimeOptions(threads=THREADS)
        ours = Encoded(PromptableModel(export(sam, Path(folder)), None, options, options), embedding)
    reference = Reference(sam, embedding)
    few = replace(EVERY, points_per_side=4)
    assert_same(ours.generate(image, few), reference.generate(image, few))
    ours_s, again_s = [], []
    for turn in range(OURS_REPEATS):
        ours.candidates.clear()
        found, seconds = timed(lambda: ours.generate(image, EVERY))
        ours_s.append(seconds)
        again_s.append(timed(lambda: ours.generate(image, replace(EVERY, box_nms_thresh=0.5)))[1])
        if turn == 0:  # minutes: once, between ours
            theirs, theirs_s = timed(lambda: reference.generate(image, EVERY))
    assert_same(found, theirs)
    first, again = float(np.median(ours_s)), float(np.median(again_s))
    kept = sum(candidates.nbytes for candidates in ours.candidates.values())
    return [
        Line("SamAutomaticMaskGenerator, 32 x 32", f"{theirs_s:.0f} s"),
        Line("segserve, 32 x 32", f"{first:.1f} s"),
        at_least("segserve against SamAutomaticMaskGenerator", theirs_s / first, 4),
        Line("segserve, another threshold", f"{again:.2f} s"),
        at_least("another threshold against the first answer", first / again, 5),
        Line("masks found, candidates kept for it", f"{len(found)}, {kept / 1e6:.0f} MB"),
    ]
