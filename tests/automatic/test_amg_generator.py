"""AMG masks are those of segment-anything's own generator."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

torch: Any = pytest.importorskip("torch")

from segment_anything import SamAutomaticMaskGenerator

from segserve.automatic import amg_candidates
from segserve.automatic.amg_candidates import AmgCandidate, AmgCandidates, decode_points
from segserve.automatic.amg_filters import AmgMask, combine_regions, filter_candidates
from segserve.automatic.parameters import AmgParams
from segserve.automatic.point_grids import make_point_grid, plan_grid_regions
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.errors import TooLarge
from segserve.masks.crop import area, bounding_box, to_mask
from segserve.masks.geometry import iou
from segserve.masks.upscale import LogitsGeometry, measure_mask
from segserve.models.export.sam import export_sam
from segserve.models.manifest import NmsKeeps
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Region, Size, UInt8
from tests.models.networks import noise_image, open_model, small_sam

MAX_BYTES = 1 << 30


class Ours:
    """The generator without a service: it encodes a region when it needs it, and keeps the candidates."""

    def __init__(self, model: PromptableModel, threads: int = 2) -> None:
        self.model = model
        self.candidates: dict[tuple[bytes, Region, int, bool], AmgCandidates] = {}
        self._threads = ThreadPoolExecutor(threads)

    def generate(self, image: UInt8, params: AmgParams) -> list[AmgMask]:
        size: Size = Size(*image.shape[:2])
        masks: list[AmgMask] = []
        for grid in plan_grid_regions(size, params):
            key = (image.tobytes(), grid.region, grid.points_per_side, params.multimask_output)
            if key not in self.candidates:
                self.candidates[key] = self._decode(image, grid, multimask=params.multimask_output)
            masks += filter_candidates(
                self.candidates[key], self.model.manifest, grid.region, size, params, MAX_BYTES
            )
        return combine_regions(masks, params)

    def prepared(self, image: UInt8, region: Region) -> PreparedImage:
        rows, columns = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
        embedding = self.model.encode(preprocess_image(image[rows, columns], self.model.preprocess))
        return PreparedImage(region.size, embedding, self.model.prepare(embedding, None))

    def _decode(self, image: UInt8, grid: Any, *, multimask: bool) -> AmgCandidates:
        prepared = self.prepared(image, grid.region)
        candidates = decode_points(
            self.model,
            prepared,
            make_point_grid(grid),
            amg_candidates.LOGIT_DEPTH,
            self._threads,
            Timings(),
            multimask,
        )
        return AmgCandidates(amg_candidates.LOGIT_DEPTH, candidates)


class Reference:
    def __init__(self, sam: Any) -> None:
        self.sam = sam

    def generate(self, image: UInt8, params: AmgParams) -> list[dict[str, Any]]:
        options = asdict(params)
        multimask = options.pop("multimask_output")
        assert options.pop("nms_keeps") is NmsKeeps.BEST, "its NMS knows scores alone"
        generator = SamAutomaticMaskGenerator(self.sam, **options)
        predict = generator.predictor.predict_torch
        generator.predictor.predict_torch = lambda *args, **named: predict(
            *args, **{**named, "multimask_output": multimask}
        )
        masks: list[dict[str, Any]] = generator.generate(image)
        return [mask for mask in masks if mask["area"]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ours, Reference]:
    sam = small_sam()
    with torch.no_grad():  # so that a mask depends on its click, and covers a few per cent of the image
        for name, parameter in sam.mask_decoder.transformer.named_parameters():
            if name.endswith("proj.weight"):
                parameter *= 2
    sam.mask_threshold = 0.05
    folder = tmp_path_factory.mktemp("models") / "small"
    return Ours(open_model(export_sam(sam, folder, name="small", architecture="vit_b"))), Reference(sam)


def pixels(mask: dict[str, Any]) -> NDArray[np.bool_]:
    kept = mask["segmentation"]
    return coco.decode(kept).astype(np.bool_) if isinstance(kept, dict) else kept  # type: ignore[no-any-return]


def assert_same(
    ours: list[AmgMask], theirs: list[dict[str, Any]], *, at_least: int = 5, stability: float = 1e-3
) -> None:
    """99% of the masks are equal: click, crop, scores, pixels; and so is their order. Rounding decides about a score or
    a pixel that lies on a threshold, and masks of nearly the same score may change places."""
    assert len(theirs) >= at_least, "the comparison must not be of nothing"

    def is_same(one: AmgMask, other: dict[str, Any]) -> bool:
        return (
            abs(one.predicted_iou - other["predicted_iou"]) < 1e-3
            and abs(one.stability_score - other["stability_score"]) < stability
            and np.allclose(one.point, other["point_coords"][0])
            and box_of(one.region) == tuple(other["crop_box"])
            and iou(to_mask(one.crop), pixels(other)) >= 0.99
        )

    left, order = list(range(len(theirs))), []
    for mask in ours:
        same = next((index for index in left if is_same(mask, theirs[index])), None)
        if same is not None:
            left.remove(same)
            order.append(same)
    assert len(order) >= 0.99 * max(len(ours), len(theirs)), f"{len(order)} of {len(ours)} and {len(theirs)}"
    for first, second in pairwise(order):
        scores = theirs[first]["predicted_iou"], theirs[second]["predicted_iou"]
        assert first < second or abs(scores[0] - scores[1]) < 1e-3


def box_of(region: Region) -> tuple[int, ...]:
    return region.x, region.y, region.width, region.height


LENIENT: dict[str, Any] = {
    "points_per_side": 7,
    "pred_iou_thresh": -1.0,  # random weights predict nothing good
    "stability_score_thresh": 0.1,
    "stability_score_offset": 0.004,
    "box_nms_thresh": 0.99,  # masks of noise reach far and wide
}
CROPS = {**LENIENT, "points_per_side": 4, "crop_n_layers": 1, "crop_nms_thresh": 0.99}
CASES = {
    "one mask of each click": AmgParams(**{**LENIENT, "box_nms_thresh": 1.0}, multimask_output=False),
    "a grid": AmgParams(**{**LENIENT, "pred_iou_thresh": 0.01}),
    "NMS removes duplicates": AmgParams(**{**LENIENT, "box_nms_thresh": 0.97}),
    "all masks": AmgParams(**{**LENIENT, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}),
    "crops, small regions": AmgParams(**CROPS, min_mask_region_area=15),
    "crops, fewer points": AmgParams(
        **{**CROPS, "points_per_side": 6}, crop_n_points_downscale_factor=2, crop_overlap_ratio=0.5
    ),
}


@pytest.mark.parametrize("keeps", [NmsKeeps.SMALLEST, NmsKeeps.LARGEST])
def test_nms_prefers_what_it_is_told(small: tuple[Ours, Reference], keeps: NmsKeeps) -> None:
    torchvision: Any = pytest.importorskip("torchvision")
    ours, _ = small
    image = noise_image(96, 128)
    params = {**LENIENT, "box_nms_thresh": 0.9}
    masks = ours.generate(image, AmgParams(**params, nms_keeps=NmsKeeps.ALL))
    by_score = ours.generate(image, AmgParams(**params))
    kept = ours.generate(image, AmgParams(**params, nms_keeps=keeps))
    assert 0 < len(kept) < len(masks)
    boxes = [bounding_box(mask.crop) for mask in masks]
    inclusive = torch.tensor([[x0, y0, x1 - 1, y1 - 1] for x0, y0, x1, y1 in boxes]).float()
    areas = torch.tensor([float(area(mask.crop)) for mask in masks])
    wanted = torchvision.ops.nms(inclusive, areas if keeps is NmsKeeps.LARGEST else -areas, 0.9).tolist()
    # Of equal areas any may be first.
    assert [area(mask.crop) for mask in kept] == [int(areas[index]) for index in wanted]
    assert sorted(area(mask.crop) for mask in kept) != sorted(area(mask.crop) for mask in by_score)


@pytest.mark.parametrize("name", CASES)
def test_masks_are_the_generators(
    small: tuple[Ours, Reference], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise has pixels next to every threshold, which fp16 would tip."""
    monkeypatch.setattr(amg_candidates, "PATCH_DTYPE", np.float32)
    ours, reference = small
    image = noise_image(200, 260)
    assert_same(ours.generate(image, CASES[name]), reference.generate(image, CASES[name]))


def test_fp16_changes_no_mask_worth_keeping(small: tuple[Ours, Reference]) -> None:
    ours, image = small[0], noise_image(200, 260)
    ours.candidates.clear()
    masks = ours.generate(image, CASES["a grid"])
    assert_same(masks, small[1].generate(image, CASES["a grid"]), stability=0.01)


def test_masks_that_would_fill_the_memory_are_refused(small: tuple[Ours, Reference]) -> None:
    ours, image, params = small[0], noise_image(200, 260), CASES["all masks"]
    ours.generate(image, params)
    (kept,) = (candidates for key, candidates in ours.candidates.items() if key[2] == params.points_per_side)
    whole = Region(0, 0, 260, 200)
    with pytest.raises(TooLarge) as refusal:
        filter_candidates(kept, ours.model.manifest, whole, whole.size, params, max_bytes=10_000)
    assert refusal.value.field == "params"


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([(90, 300), (700, 40), (257, 255), (31, 33)]), st.booleans())
def test_cutting_logits_to_a_patch_changes_no_measure(seed: int, size: tuple[int, int], padded: bool) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-9, 4, (64, 64)).astype(np.float16).astype(np.float32)
    geometry = (
        LogitsGeometry.padded(Size(*size), 256, 64) if padded else LogitsGeometry.stretched(Size(*size), 64)
    )
    logits[rng.random((64, 64)) < 0.9] = -20
    candidate = AmgCandidate((0, 0), 0.5, amg_candidates.cut_patch(logits, amg_candidates.LOGIT_DEPTH))
    restored = AmgCandidates(amg_candidates.LOGIT_DEPTH, [candidate]).logits(0, 64)
    for offset in (0.0, 1.0, amg_candidates.LOGIT_DEPTH):
        assert measure_mask(restored, geometry, 0, offset) == measure_mask(logits, geometry, 0, offset)
