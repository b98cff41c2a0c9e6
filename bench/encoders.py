"""MobileSAM's encoder: ONNX Runtime and OpenVINO against eager PyTorch, with the same number of threads, in one run.

Each precision's masks are compared with fp32's on the built-in pictures. Beside it, how many images a second a job
gets: one after the other with all threads, or as many at a time as there are threads, with one each.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mobile_sam import sam_model_registry

from bench import real_weights
from bench.measuring import (
    REHEARSE,
    THREADS,
    Measurement,
    at_least,
    describe_cpu_flags,
    measure_interleaved_ms,
)
from segserve.encode.preprocess import preprocess_image
from segserve.models.agreement import MIN_IOU_MEAN
from segserve.models.bundle import Bundle
from segserve.models.export.sam import export_sam
from segserve.models.measure_agreement import measure_agreement
from segserve.models.onnx_pair_model import open_promptable_model
from segserve.models.runtime.cpu_features import find_bf16_instructions
from segserve.models.runtime.openvino_graph import has_openvino
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Precision, Runtime

IMAGES_AT_ONCE = 1  # of each thread, in a turn of the throughput
TURNS = 3


def measure() -> list[Measurement]:
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        if real_weights.uses_real_weights():
            sam, bundle = real_weights.build_network(), real_weights.open_bundle()
            preprocess = open_promptable_model(bundle, None, None).preprocess
            picture = real_weights.read_photograph((1024, 1024))
            image = torch.from_numpy(preprocess_image(picture, preprocess))
        else:
            sam, image = sam_model_registry["vit_t"]().eval(), torch.randn(1, 3, 1024, 1024)
            bundle = export_sam(sam, Path(work) / "m", name="m", architecture="vit_t")
        models = {
            name: open_promptable_model(bundle, options, None) for name, options in list_runtimes().items()
        }
        reference = sam.image_encoder(image)[0].numpy()
        pixels = image.numpy()
        differences = {
            name: float(np.abs(model.encode(pixels)["embedding"] - reference).max() / reference.std())
            for name, model in models.items()
        }
        calls = {"torch eager": lambda: sam.image_encoder(image)}
        calls |= {name: lambda model=model: model.encode(pixels) for name, model in models.items()}
        times = measure_interleaved_ms(calls, repeats=5)
        rows = [
            Measurement("CPU flags", describe_cpu_flags()),
            real_weights.describe_weights("random; the image is noise"),
            *(Measurement(f"MobileSAM encoder, {name}", f"{ms:.0f} ms") for name, ms in times.items()),
        ]
        for name, difference in differences.items():
            exact = "bf16" not in name
            rows.append(
                Measurement(
                    f"{name}: largest difference over the standard deviation",
                    f"{difference:.2g}",
                    "<= 0.001" if exact else "",
                    difference <= 1e-3 if exact else None,
                )
            )
        ratio = times["torch eager"] / times["ONNX Runtime"]
        rows.append(at_least("MobileSAM encoder against torch eager, ONNX Runtime", ratio, 2.5))
        for name in list(models)[1:]:
            ratio = times["torch eager"] / times[name]
            target = 4 if "bf16" in name else 2.5
            rows.append(at_least(f"MobileSAM encoder against torch eager, {name}", ratio, target))
        rows += measure_throughput(bundle, pixels)
        if any("bf16" in name for name in models) and real_weights.uses_real_weights():
            found = measure_agreement(bundle, THREADS)
            rows.append(
                Measurement(
                    f"bf16 against fp32 by {find_bf16_instructions()}, IoU of {found.masks} masks",
                    f"mean {found.iou_mean:.4f}, 5th percentile {found.iou_p05:.4f}, least {found.iou_min:.4f}",
                    f"mean >= {MIN_IOU_MEAN}, 5th percentile >= 0.99",
                    found.is_close,
                )
            )
    return rows


def measure_throughput(bundle: Bundle, pixels: np.ndarray) -> list[Measurement]:
    """Return the images a second of each runtime in both ways, which take turns."""
    images = 1 if REHEARSE else IMAGES_AT_ONCE * THREADS
    rows = []
    for name, options in list_runtimes().items():
        ways = {
            f"one at a time, {THREADS} threads": (options, 1),
            f"{THREADS} at a time, one thread each": (
                replace(options, threads=1, concurrent_runs=THREADS),
                THREADS,
            ),
        }
        opened = {way: open_promptable_model(bundle, each, None) for way, (each, _) in ways.items()}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(TURNS + 1):
            for way, (_, at_once) in ways.items():
                start = time.perf_counter()
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(lambda _, model=opened[way]: model.encode(pixels), range(images)))
                if turn or REHEARSE:  # the first turn warms up
                    rates[way].append(images / (time.perf_counter() - start))
        rows += [
            Measurement(f"images a second, {name}, {way}", f"{np.median(found):.2f}")
            for way, found in rates.items()
        ]
    return rows


def list_runtimes() -> dict[str, RuntimeOptions]:
    """Return the runtimes and precisions that this machine has."""
    fp32 = RuntimeOptions(threads=THREADS)
    runtimes = {"ONNX Runtime": fp32}
    if has_openvino():
        openvino = replace(fp32, runtime=Runtime.OPENVINO)
        runtimes["OpenVINO fp32"] = openvino
        if find_bf16_instructions():
            runtimes["OpenVINO bf16"] = replace(openvino, precision=Precision.BF16)
    return runtimes
