"""Encoding and clicks on a GPU: ONNX Runtime's CUDA provider against PyTorch, in one run.

BENCH_REHEARSE=1 runs all of it on the CPU with a small network. That shows that it works, and nothing about speed.
"""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from segment_anything import sam_model_registry
from tests.models.networks import small_sam

from bench.measuring import REHEARSE, THREADS, Measurement, Skipped, at_least, measure_interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.export.fp16 import add_fp16_encoder
from segserve.models.export.sam import export_sam
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device, Float32

BATCHES = (1, 8)
CANDIDATES = [1, 2, 3]
REPEATS = 2 if REHEARSE else 30
# Of the largest difference over the standard deviation. bf16 has three bits less than fp16, through twelve blocks.
MAX_ERRORS = {"fp32": 1e-2, "fp16": 0.05, "bf16": 0.2}
MIN_SPEED = 0.8  # ONNX Runtime may be slower by a fifth; beyond, PyTorch would be worth having as a runtime


class TorchSam:
    """segment-anything's own network in PyTorch: bf16 weights in the encoder, autocast in the decoder."""

    def __init__(self, sam: Any, device: str, *, compiled: bool) -> None:
        self.device, self.sam = device, sam.to(device)
        # inductor writes Triton for a GPU, but C++ for a CPU: a rehearsal does without it.
        backend = "eager" if REHEARSE else "inductor"
        wrap = partial(torch.compile, dynamic=False, backend=backend) if compiled else lambda call: call
        self._encoder = wrap(copy.deepcopy(sam.image_encoder).to(torch.bfloat16))
        self._decoder = wrap(self._decode)

    @torch.inference_mode()
    def encode(self, images: Float32) -> Float32:
        embeddings = self._encoder(torch.from_numpy(images).to(self.device, torch.bfloat16))
        return embeddings.float().cpu().numpy()  # type: ignore[no-any-return]

    def _decode(self, embedding: Any, coords: Any, labels: Any) -> Any:
        sparse, dense = self.sam.prompt_encoder(points=(coords, labels), boxes=None, masks=None)
        masks, _ = self.sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return masks[0]

    def build_clicker(self, embedding: Float32, middle: float) -> Callable[[], Float32]:
        """Return a function that clicks on an image, and returns low-res logits [3, 4g, 4g].

        The image's embedding [C, g, g] is on the device.
        """
        on_device = torch.from_numpy(embedding)[None].to(self.device)

        @torch.inference_mode()
        def click() -> Float32:
            coords = torch.tensor([[[middle, middle]]], device=self.device)
            labels = torch.ones(1, 1, device=self.device)
            with torch.autocast(self.device, torch.bfloat16):
                return self._decoder(on_device, coords, labels).float().cpu().numpy()  # type: ignore[no-any-return]

        return click


def build_our_clicker(model: PromptableModel, embedding: Float32, middle: float) -> Callable[[], Float32]:
    """Return a function that clicks on an image, and returns low-res logits [3, 4g, 4g]."""
    prepared = model.prepare({"embedding": embedding}, None)
    coords, labels = np.array([[middle, middle], [0, 0]], np.float32), np.array([1, -1], np.float32)
    return lambda: model.decode(prepared, coords, labels, CANDIDATES)[0]


def measure() -> list[Measurement]:
    device = pick_device()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    sam = small_sam() if REHEARSE else sam_model_registry["vit_b"]().eval()
    with tempfile.TemporaryDirectory() as work:
        bundle = add_fp16_encoder(
            export_sam(sam, Path(work) / "m", name="m", architecture="test" if REHEARSE else "vit_b")
        )
        return [
            *describe_device(device),
            *measure_encoding(bundle, sam, device),
            *measure_clicks(bundle, sam, device),
        ]


def pick_device() -> Device:
    """Return the GPU. Raises Skipped where there is none that both can use."""
    if REHEARSE:
        return Device.CPU
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise Skipped("onnxruntime-gpu is not installed")
    return Device.CUDA


def describe_device(device: Device) -> list[Measurement]:
    name = torch.cuda.get_device_name() if device is Device.CUDA else "the CPU, a rehearsal: read no times"
    versions = f"ONNX Runtime {ort.__version__}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    return [Measurement("device", f"{name}; {versions}")]


def runtime_options(device: Device, *, fp16: bool = False) -> RuntimeOptions:
    return RuntimeOptions(device, THREADS, keep_on_device=True, fp16=fp16)


def measure_encoding(bundle: Bundle, sam: Any, device: Device) -> list[Measurement]:
    """Measure encoding from images in the host's memory to embeddings there, as a worker does it."""
    torch_sams = {
        f"torch {how} bf16": TorchSam(sam, device, compiled=how == "compile") for how in ("eager", "compile")
    }
    calls: dict[str, Callable[[Float32], Float32]] = {
        **{
            f"ONNX Runtime {precision}": build_encoder(
                PromptableModel(bundle, runtime_options(device, fp16=fp16), None)
            )
            for precision, fp16 in (("fp16", True), ("fp32", False))
        },
        **{name: peer.encode for name, peer in torch_sams.items()},
    }
    edge, rows = bundle.manifest.preprocess.input_size, []
    for batch in BATCHES:
        images = np.random.default_rng(0).normal(size=(batch, 3, edge, edge)).astype(np.float32)
        assert_close({name: call(images) for name, call in calls.items()}, "ONNX Runtime fp32")
        times = measure_interleaved_ms({name: partial(call, images) for name, call in calls.items()}, REPEATS)
        rows += [
            Measurement(f"encode, batch {batch}: {name}", f"{ms:.1f} ms, {1000 * batch / ms:.1f} images/s")
            for name, ms in times.items()
        ]
        rows += compare_with_torch(f"encode, batch {batch}", times, "ONNX Runtime fp16")
    return rows


def build_encoder(model: PromptableModel) -> Callable[[Float32], Float32]:
    """Return a function from images [B, 3, S, S] to embeddings [B, C, g, g]."""
    return lambda images: np.stack([result["embedding"] for result in model.encode_batch(images)])


def measure_clicks(bundle: Bundle, sam: Any, device: Device) -> list[Measurement]:
    """Measure clicks from a point to three low-res logits in the host's memory.

    The image's embedding is on the device. The rest of a click does not depend on the runtime.
    """
    dims, middle = bundle.manifest.dims, bundle.manifest.preprocess.input_size / 2
    embedding = np.random.default_rng(0).normal(size=dims.embedding).astype(np.float32)
    calls = {
        "ONNX Runtime fp32": build_our_clicker(
            PromptableModel(bundle, None, runtime_options(device)), embedding, middle
        ),
        "ONNX Runtime fp32 on the CPU": build_our_clicker(
            PromptableModel(bundle, None, RuntimeOptions(threads=THREADS)), embedding, middle
        ),
        "torch eager bf16": TorchSam(sam, device, compiled=False).build_clicker(embedding, middle),
        "torch compile bf16": TorchSam(sam, device, compiled=True).build_clicker(embedding, middle),
    }
    assert_close({name: call() for name, call in calls.items()}, "ONNX Runtime fp32 on the CPU")
    times = measure_interleaved_ms(calls, REPEATS)
    return [
        *(Measurement(f"click: {name}", f"{ms:.2f} ms") for name, ms in times.items()),
        *compare_with_torch("click", times, "ONNX Runtime fp32"),
    ]


def compare_with_torch(label: str, times: dict[str, float], name: str) -> list[Measurement]:
    rows = []
    for peer in ("torch eager bf16", "torch compile bf16"):
        ratio, row_label = times[peer] / times[name], f"{label}: {name} against {peer}"
        rows.append(
            Measurement(row_label, f"{ratio:.2f}x") if REHEARSE else at_least(row_label, ratio, MIN_SPEED)
        )
    return rows


def assert_close(results: dict[str, Float32], reference: str) -> None:
    """Check that all results agree with the reference: only then can their times be compared."""
    expected = results[reference]
    for name, array in results.items():
        limit = next(limit for precision, limit in MAX_ERRORS.items() if precision in name)
        error = float(np.abs(array - expected).max() / expected.std())
        assert error <= limit, f"{name} is off by {error:.2g}"
