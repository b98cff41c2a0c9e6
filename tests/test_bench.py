"""Benchmarks that need a GPU are skipped without one, and can be rehearsed on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "gpu.md"


def run_gpu_benchmark(**environment: str) -> str:
    """Run the GPU benchmark and return what it prints. Check that it leaves the stored results as they are."""
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    completed = subprocess.run(
        [sys.executable, "-m", "bench", "gpu"],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before
    return completed.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and measuring takes minutes")
def test_without_a_gpu_it_is_skipped() -> None:
    assert "skipped: no CUDA device" in run_gpu_benchmark()


@pytest.mark.large
def test_it_can_be_rehearsed_on_a_cpu() -> None:
    table = run_gpu_benchmark(BENCH_REHEARSE="1")
    assert "a rehearsal" in table
    for batch in (1, 8):
        for name in (
            "ONNX Runtime fp16",
            "ONNX Runtime fp32",
            "torch eager bf16",
            "torch compile bf16",
            "ONNX Runtime fp16 against torch compile bf16",
        ):
            assert f"| encode, batch {batch}: {name} |" in table
    for name in ("ONNX Runtime fp32", "torch eager bf16", "torch compile bf16"):
        assert f"| click: {name} |" in table
