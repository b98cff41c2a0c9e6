"""Mask R-CNN from pixels to objects with binary masks: against eager torchvision, in one run."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.instances.networks import full

from bench.measuring import THREADS, Measurement, measure_interleaved_ms
from segserve.instances.box_nms import DetectionThresholds
from segserve.instances.segmenter import find_objects
from segserve.masks import crop
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.importers.mask_rcnn import COCO_CLASSES
from segserve.models.instances_model import InstancesModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import SegmentedObject, UInt8

HEIGHT, WIDTH = 480, 640
LIMITS = DetectionThresholds(score=0.05, nms=0.5, mask=0.5, max_objects=20)


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return [row for variant in ("resnet50_fpn", "resnet50_fpn_v2") for row in compare_variant(variant, image)]


def compare_variant(variant: str, image: UInt8) -> list[Measurement]:
    network = full(variant, 800, 1333, len(COCO_CLASSES))
    heads = network.roi_heads
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = (
        LIMITS.score,
        LIMITS.nms,
        LIMITS.max_objects,
    )

    def theirs() -> dict[str, Any]:
        with torch.no_grad():
            [result] = network([torch.from_numpy(image).permute(2, 0, 1) / 255])
        return {**result, "masks": result["masks"][:, 0] >= LIMITS.mask}

    timings: list[Timings] = []
    with tempfile.TemporaryDirectory() as work:
        bundle = export_mask_rcnn(
            network, Path(work) / "m", name="m", architecture=variant, classes=COCO_CLASSES
        )
        model = InstancesModel(bundle, RuntimeOptions(threads=THREADS))

        def ours() -> list[SegmentedObject]:
            timings.append(Timings())
            return find_objects(image, model, LIMITS, timings[-1])

        assert_same_objects(ours(), theirs())
        times = measure_interleaved_ms({"torchvision eager": theirs, "segserve": ours}, repeats=5)
    stages = {name: np.median([1000 * t.seconds[name] for t in timings]) for name in timings[0].seconds}
    return [
        *(Measurement(f"{variant}, {name}", f"{ms:.0f} ms") for name, ms in times.items()),
        Measurement(f"{variant}: stages", ", ".join(f"{name} {ms:.0f} ms" for name, ms in stages.items())),
        Measurement(f"{variant} against eager", f"{times['torchvision eager'] / times['segserve']:.2f}x"),
    ]


def assert_same_objects(ours: list[SegmentedObject], theirs: dict[str, Any]) -> None:
    """Check that both give the same objects: only then can their times be compared."""
    masks = theirs["masks"].numpy()
    assert len(ours) == masks.any(axis=(1, 2)).sum() > 0
    for detected, mask, score in zip(
        ours, masks[masks.any(axis=(1, 2))], theirs["scores"].numpy(), strict=False
    ):
        assert detected.score is not None
        assert abs(detected.score - score) < 1e-4
        assert (crop.to_mask(detected.crop) != mask).mean() < 1e-3
