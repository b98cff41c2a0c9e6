"""Mask R-CNN: from pixels to objects with binary masks, against torchvision eager, the same threads, in one run."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.instances.networks import full

from bench.common import THREADS, Line, interleaved_ms
from segserve.instances.box_nms import DetectionThresholds
from segserve.instances.segmenter import find_objects
from segserve.masks import crop
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.importers.mask_rcnn import COCO_CLASSES
from segserve.models.instances_model import InstancesModel
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.timing import Timings
from segserve.types import SegmentedObject, UInt8

HEIGHT, WIDTH = 480, 640
LIMITS = DetectionThresholds(score=0.05, nms=0.5, mask=0.5, max_objects=20)


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return [line for variant in ("resnet50_fpn", "resnet50_fpn_v2") for line in compare(variant, image)]


def compare(variant: str, image: UInt8) -> list[Line]:
    network = full(variant, 800, 1333, len(COCO_CLASSES))
    heads = network.roi_heads
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = (
        LIMITS.score,
        LIMITS.nms,
        LIMITS.max_objects,
    )

    def theirs() -> dict[str, Any]:
        with torch.no_grad():
            [found] = network([torch.from_numpy(image).permute(2, 0, 1) / 255])
        return {**found, "masks": found["masks"][:, 0] >= LIMITS.mask}

    timings: list[Timings] = []
    with tempfile.TemporaryDirectory() as work:
        bundle = export_mask_rcnn(
            network, Path(work) / "m", name="m", architecture=variant, classes=COCO_CLASSES
        )
        model = InstancesModel(bundle, RuntimeOptions(threads=THREADS))

        def ours() -> list[SegmentedObject]:
            timings.append(Timings())
            return find_objects(image, model, LIMITS, timings[-1])

        same(ours(), theirs())
        times = interleaved_ms({"torchvision eager": theirs, "segserve": ours}, repeats=5)
    stages = {name: np.median([1000 * t.seconds[name] for t in timings]) for name in timings[0].seconds}
    return [
        *(Line(f"{variant}, {name}", f"{ms:.0f} ms") for name, ms in times.items()),
        Line(f"{variant}: stages", ", ".join(f"{name} {ms:.0f} ms" for name, ms in stages.items())),
        Line(f"{variant} against eager", f"{times['torchvision eager'] / times['segserve']:.2f}x"),
    ]


def same(ours: list[SegmentedObject], theirs: dict[str, Any]) -> None:
    """A comparison of times means something only between equal answers."""
    masks = theirs["masks"].numpy()
    assert len(ours) == masks.any(axis=(1, 2)).sum() > 0
    for found, mask, score in zip(
        ours, masks[masks.any(axis=(1, 2))], theirs["scores"].numpy(), strict=False
    ):
        assert found.score is not None
        assert abs(found.score - score) < 1e-4
        assert (crop.to_mask(found.crop) != mask).mean() < 1e-3
