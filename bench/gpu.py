"""Encoding and clicks on a GPU: ONNX Runtime's CUDA provider against torch, in one run. BENCH_REHEARSE=1 runs all of
it on the CPU, with a small network: that shows that it works, and nothing about speed."""

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

from bench.common import REHEARSE, THREADS, Line, Skipped, at_least, interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.export.fp16 import add_fp16_encoder
from segserve.models.export.sam import export_sam
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import PromptableModel
from segserve.types import Device, Float32

BATCHES = (1, 8)
CANDIDATES = [1, 2, 3]
REPEATS = 2 if REHEARSE else 30
# The largest difference over the deviation: bf16 has three bits less than fp16, through twelve blocks.
CLOSE = {"fp32": 1e-2, "fp16": 0.05, "bf16": 0.2}
NEAR_TORCH = 0.8  # ONNX Runtime may fall behind by a fifth before torch is worth having as a runtime


class Torch:
    """segment-anything's own network in torch: bf16 weights in the encoder, autocast in the decoder."""

    def __init__(self, sam: Any, device: str, *, compiled: bool) -> None:
        self.device, self.sam = device, sam.to(device)
        # A rehearsal goes without the C++ that torch would write for a CPU: on a GPU it is Triton.
        backend = "eager" if REHEARSE else "inductor"
        wrap = partial(torch.compile, dynamic=False, backend=backend) if compiled else lambda call: call
        self._encoder = wrap(copy.deepcopy(sam.image_encoder).to(torch.bfloat16))
        self._decoder = wrap(self._decode)

    @torch.inference_mode()
    def encode(self, images: Float32) -> Float32:
        found = self._encoder(torch.from_numpy(images).to(self.device, torch.bfloat16))
        return found.float().cpu().numpy()  # type: ignore[no-any-return]

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

    def clicker(self, embedding: Float32, middle: float) -> Callable[[], Float32]:
        """Clicks on an image whose embedding [C, g, g] is on the device: low-res logits [3, 4g, 4g]."""
        held = torch.from_numpy(embedding)[None].to(self.device)

        @torch.inference_mode()
        def click() -> Float32:
            coords = torch.tensor([[[middle, middle]]], device=self.device)
            labels = torch.ones(1, 1, device=self.device)
            with torch.autocast(self.device, torch.bfloat16):
                return self._decoder(held, coords, labels).float().cpu().numpy()  # type: ignore[no-any-return]

        return click


def ours(model: PromptableModel, embedding: Float32, middle: float) -> Callable[[], Float32]:
    prepared = model.prepare({"embedding": embedding}, None)
    coords, labels = np.array([[middle, middle], [0, 0]], np.float32), np.array([1, -1], np.float32)
    return lambda: model.decode(prepared, coords, labels, CANDIDATES)[0]


def measure() -> list[Line]:
    device = pick_device()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    sam = small_sam() if REHEARSE else sam_model_registry["vit_b"]().eval()
    with tempfile.TemporaryDirectory() as work:
        bundle = add_fp16_encoder(
            export_sam(sam, Path(work) / "m", name="m", architecture="test" if REHEARSE else "vit_b")
        )
        return [*machine(device), *encoding(bundle, sam, device), *clicking(bundle, sam, device)]


def pick_device() -> Device:
    """Raises Skipped where there is no GPU that both can use."""
    if REHEARSE:
        return Device.CPU
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise Skipped("onnxruntime-gpu is not installed")
    return Device.CUDA


def machine(device: Device) -> list[Line]:
    name = torch.cuda.get_device_name() if device is Device.CUDA else "the CPU, a rehearsal: read no times"
    versions = f"ONNX Runtime {ort.__version__}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    return [Line("device", f"{name}; {versions}")]


def options(device: Device, *, half: bool = False) -> RuntimeOptions:
    return RuntimeOptions(device, THREADS, keep_on_device=True, fp16=half)


def encoding(bundle: Bundle, sam: Any, device: Device) -> list[Line]:
    """From images in the host's memory to embeddings there, as a worker does."""
    peers = {
        f"torch {how} bf16": Torch(sam, device, compiled=how == "compile") for how in ("eager", "compile")
    }
    calls: dict[str, Callable[[Float32], Float32]] = {
        **{
            f"ONNX Runtime {precision}": encoder_of(PromptableModel(bundle, options(device, half=half), None))
            for precision, half in (("fp16", True), ("fp32", False))
        },
        **{name: peer.encode for name, peer in peers.items()},
    }
    edge, lines = bundle.manifest.preprocess.input_size, []
    for batch in BATCHES:
        images = np.random.default_rng(0).normal(size=(batch, 3, edge, edge)).astype(np.float32)
        same({name: call(images) for name, call in calls.items()}, "ONNX Runtime fp32")
        times = interleaved_ms({name: partial(call, images) for name, call in calls.items()}, REPEATS)
        lines += [
            Line(f"encode, batch {batch}: {name}", f"{ms:.1f} ms, {1000 * batch / ms:.1f} images/s")
            for name, ms in times.items()
        ]
        lines += against_torch(f"encode, batch {batch}", times, "ONNX Runtime fp16")
    return lines


def encoder_of(model: PromptableModel) -> Callable[[Float32], Float32]:
    return lambda images: np.stack([found["embedding"] for found in model.encode_batch(images)])


def clicking(bundle: Bundle, sam: Any, device: Device) -> list[Line]:
    """From a point to three low-res logits in the host's memory; the image's embedding is on the device. The rest of
    a click is the same whoever decodes."""
    dims, middle = bundle.manifest.dims, bundle.manifest.preprocess.input_size / 2
    embedding = np.random.default_rng(0).normal(size=dims.embedding).astype(np.float32)
    calls = {
        "ONNX Runtime fp32": ours(PromptableModel(bundle, None, options(device)), embedding, middle),
        "ONNX Runtime fp32 on the CPU": ours(
            PromptableModel(bundle, None, RuntimeOptions(threads=THREADS)), embedding, middle
        ),
        "torch eager bf16": Torch(sam, device, compiled=False).clicker(embedding, middle),
        "torch compile bf16": Torch(sam, device, compiled=True).clicker(embedding, middle),
    }
    same({name: call() for name, call in calls.items()}, "ONNX Runtime fp32 on the CPU")
    times = interleaved_ms(calls, REPEATS)
    return [
        *(Line(f"click: {name}", f"{ms:.2f} ms") for name, ms in times.items()),
        *against_torch("click", times, "ONNX Runtime fp32"),
    ]


def against_torch(what: str, times: dict[str, float], name: str) -> list[Line]:
    lines = []
    for peer in ("torch eager bf16", "torch compile bf16"):
        ratio, said = times[peer] / times[name], f"{what}: {name} against {peer}"
        lines.append(Line(said, f"{ratio:.2f}x") if REHEARSE else at_least(said, ratio, NEAR_TORCH))
    return lines


def same(found: dict[str, Float32], reference: str) -> None:
    """A comparison of times means something only between equal answers."""
    expected = found[reference]
    for name, array in found.items():
        limit = next(limit for precision, limit in CLOSE.items() if precision in name)
        error = float(np.abs(array - expected).max() / expected.std())
        assert error <= limit, f"{name} is off by {error:.2g}"
