"""Automatic masks (AMG) of a 32 x 32 grid: segment-anything's generator against ours, with a decoder of ViT-B's size.

The published MobileSAM segments a photograph. Without it, random weights give logits that are noise, with a standard
deviation of about 0.06. A steep hill is then added to the low-res logits of both, at the lattice point nearest to the
click. So every mask is a stable disc of 1% of the image, and several clicks give the same one. Neither encodes: both
start from the same embedding.
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

from bench import real_weights
from bench.blob_sam import LOW_RES
from bench.measuring import REHEARSE, THREADS, Measurement, at_least
from segserve.automatic.parameters import AmgParams
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export import sam as exporter
from segserve.models.export.fast_decoder import FastDecoder
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Region, UInt8

SIDE_PX = 1024  # of the image and of the model's input
MASK_SHARE = 0.01  # of the image
LATTICE_PX = SIDE_PX / 12  # between lattice points
SLOPE = 8.0  # logits per low-res pixel: it gives masks a stability score of 0.97
HILL_PARAMS = AmgParams(pred_iou_thresh=0.0)  # random weights predict low IoU; all else has its default
OURS_REPEATS = 3


def build_hills(clicks: Tensor) -> Tensor:
    """Return logits [B, LOW_RES, LOW_RES] for clicks [B, 2] in input pixels.

    They are positive on a disc around the lattice point nearest to the click.
    """
    centres = ((clicks / LATTICE_PX).floor() + 0.5) * (LATTICE_PX * LOW_RES / SIDE_PX) - 0.5
    at = torch.arange(LOW_RES, dtype=torch.float32)
    x, y = at[None, None] - centres[:, :1, None], at[None, :, None] - centres[:, 1:, None]
    radius = LOW_RES * (MASK_SHARE / np.pi) ** 0.5
    return ((radius - (x * x + y * y).sqrt()) * SLOPE).clip(-8, 8)


class RecordingPromptEncoder(PromptEncoder):
    """`RecordingPromptEncoder` records the clicks for `HillyMaskDecoder`."""

    clicks: Tensor

    def forward(self, points: Any, boxes: Any, masks: Any) -> Any:
        self.clicks = points[0][:, 0].float()
        return super().forward(points, boxes, masks)


class HillyMaskDecoder(MaskDecoder):
    clicks: Callable[[], Tensor]

    def predict_masks(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        masks, scores = super().predict_masks(*args, **kwargs)
        return masks + build_hills(self.clicks())[:, None], scores


class HillyFastDecoder(FastDecoder):
    def forward(self, point_coords: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
        masks, scores = super().forward(point_coords, *args)
        return masks + build_hills(point_coords[0, :1]), scores


def build_hilly_sam() -> Sam:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    sam.prompt_encoder.__class__, sam.mask_decoder.__class__ = RecordingPromptEncoder, HillyMaskDecoder
    sam.mask_decoder.clicks = lambda: sam.prompt_encoder.clicks
    return sam


def export_decoders(sam: Sam, folder: Path) -> Bundle:
    """Write a bundle of the decoders, without an encoder."""
    original, exporter.FastDecoder = exporter.FastDecoder, HillyFastDecoder
    try:
        exporter.export_decoders(sam.prompt_encoder, sam.mask_decoder, folder, [], fp16_weights=False)
    finally:
        exporter.FastDecoder = original
    manifest = PromptableManifest(
        name="hills",
        kind=ModelKind.SAM,
        architecture="vit_b",
        preprocess=PreprocessEntry(input_size=SIDE_PX, mean=(0, 0, 0), std=(1, 1, 1), resize="pad"),
        dims=Dims(embedding=(256, LOW_RES // 4, LOW_RES // 4), low=LOW_RES),
        files={},
    )
    return write_manifest(folder, manifest)


class OurGenerator(Ours):
    """Our generator, on a computed embedding."""

    def __init__(self, model: PromptableModel, embedding: Tensor) -> None:
        super().__init__(model, THREADS)
        self._embedding = {"embedding": embedding[0].numpy()}

    def prepared(self, image: UInt8, region: Region) -> PreparedImage:
        return PreparedImage(region.size, self._embedding, self.model.prepare(self._embedding, None))


class ReferenceGenerator:
    """segment-anything's generator, on a computed embedding."""

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


def measure_seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return (the result of a call, its seconds)."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def build_generators() -> tuple[OurGenerator, ReferenceGenerator, UInt8, AmgParams]:
    """Return both generators on one embedding, the image that it is of, and the parameters."""
    options = RuntimeOptions(threads=THREADS)
    if real_weights.uses_real_weights():
        sam, image = real_weights.build_network(), real_weights.read_photograph((SIDE_PX, SIDE_PX))
        model = PromptableModel(real_weights.open_bundle(), options, options)
        embedding = torch.from_numpy(model.encode(preprocess_image(image, model.preprocess))["embedding"])[
            None
        ]
        return OurGenerator(model, embedding), ReferenceGenerator(sam, embedding), image, AmgParams()
    sam, image = build_hilly_sam(), np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    embedding = torch.randn(1, 256, LOW_RES // 4, LOW_RES // 4, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        model = PromptableModel(export_decoders(sam, Path(folder)), None, options, options)
    return OurGenerator(model, embedding), ReferenceGenerator(sam, embedding), image, HILL_PARAMS


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    ours, reference, image, params = build_generators()
    few = replace(params, points_per_side=8)
    if REHEARSE:
        params = few
    assert_same(ours.generate(image, few), reference.generate(image, few))
    ours_s, again_s = [], []
    for turn in range(OURS_REPEATS):
        ours.candidates.clear()
        masks, seconds = measure_seconds(lambda: ours.generate(image, params))
        ours_s.append(seconds)
        again_s.append(measure_seconds(lambda: ours.generate(image, replace(params, box_nms_thresh=0.5)))[1])
        if turn == 0:  # it takes minutes, so it runs once
            theirs, theirs_s = measure_seconds(lambda: reference.generate(image, params))
    assert_same(masks, theirs)
    first, again = float(np.median(ours_s)), float(np.median(again_s))
    cached = sum(candidates.nbytes for candidates in ours.candidates.values())
    return [
        real_weights.describe_weights(
            "random, of ViT-B's size, with a hill added to the logits of each click"
        ),
        Measurement("SamAutomaticMaskGenerator, 32 x 32", f"{theirs_s:.0f} s"),
        Measurement("segserve, 32 x 32", f"{first:.1f} s"),
        at_least("segserve against SamAutomaticMaskGenerator", theirs_s / first, 4),
        Measurement("segserve, with another threshold", f"{again:.2f} s"),
        at_least("another threshold against the first answer", first / again, 5),
        Measurement("masks, cached candidates", f"{len(masks)}, {cached / 1e6:.0f} MB"),
    ]
