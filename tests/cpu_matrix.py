"""The numerical tests under the instruction sets of other CPUs, with one thread and with two; and all tests that
hypothesis writes examples for, with other examples.

    python -m tests.cpu_matrix               everything that this CPU can show; half an hour on two cores
    python -m tests.cpu_matrix avx2-1        one of the settings

torch, oneDNN, MKL and numpy can be told to leave instructions unused. ONNX Runtime cannot: it takes what there is.
Prints a line for each setting. The exit status is 1 if a test failed under any of them.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy._core import _multiarray_umath as numpy_core

# Folders and files whose tests compare floats, or masks that are cut from floats, with another library's or with the
# same code's on another path.
NUMERICAL = [
    "tests/automatic",
    "tests/decode",
    "tests/encode/test_preprocess.py",
    "tests/evaluate",
    "tests/images",
    "tests/instances",
    "tests/masks",
    "tests/models",
    "tests/projection",
    "tests/sam2_memory",
    "tests/semantic",
    "tests/test_rounding.py",
    "tests/train",
    "tests/wire/test_automatic.py",
    "tests/wire/test_automatic_amg.py",
    "tests/wire/test_semantic.py",
]
# What stands in these folders and computes no float, so that it is the same on every CPU.
EXACT = [
    # Who waits for whom, what is kept, refused, found, written.
    "tests/automatic/test_amg_candidate_cache.py",
    "tests/decode/test_check_prompt.py",
    "tests/decode/test_click_limit.py",
    "tests/evaluate/test_ground_truth.py",
    "tests/evaluate/test_html_page.py",
    "tests/evaluate/test_volume_results.py",
    "tests/images/test_build_pyramid.py",
    "tests/images/test_fetch_url.py",
    "tests/images/test_formats.py",
    "tests/images/test_memory_estimate.py",
    "tests/models/importers/test_build_semantic_manifest.py",
    "tests/models/importers/test_package_archive.py",
    "tests/models/importers/test_safe_unzip.py",
    "tests/models/runtime/test_cpu_features.py",
    "tests/models/test_catalogue.py",
    "tests/models/test_cli.py",
    "tests/models/test_download.py",
    "tests/models/test_model_advice.py",
    "tests/models/test_model_tables.py",
    "tests/models/test_package_index.py",
    "tests/models/test_pull.py",
    "tests/models/test_registry.py",
    "tests/sam2_memory/test_resident.py",
    "tests/train/test_cli.py",
    "tests/train/test_dataset_folder.py",
    # Stored values come back as they are, or a damaged file is refused: codecs, which none of the settings reaches.
    "tests/images/raster",
    "tests/images/sandboxed",
    "tests/images/test_decompression_bombs.py",
    "tests/images/test_fuzz_read_image.py",
    "tests/images/test_orientation.py",
    "tests/images/tiff/test_codec_bombs.py",
    "tests/images/tiff/test_codecs.py",
    "tests/models/importers/test_torch_file.py",
    # Whole numbers: pixels counted and copied, orders, indices.
    "tests/automatic/test_stitch_tiles.py",
    "tests/images/test_tiling.py",
    "tests/masks/test_block_crop.py",
    "tests/masks/test_crop.py",
    "tests/masks/test_label_map.py",
    "tests/masks/test_png.py",
    "tests/masks/test_rle.py",
    "tests/projection/test_slice_order.py",
]
TESTS = [*NUMERICAL, *(f"--ignore={path}" for path in EXACT)]

# Instruction set: what torch, oneDNN and MKL call it.
LEVELS = {
    "default": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
}
SEEDS = range(1, 6)  # of hypothesis: other examples
# What does not draw examples is the same under every seed.
DRAWN_TESTS = sorted(
    str(path)
    for path in Path("tests").rglob("test_*.py")
    if "import hypothesis" in (text := path.read_text()) or "from hypothesis" in text
)


def disabled_in_numpy(level: str) -> str:
    """numpy's optional instruction sets that this CPU has and the level has not."""
    above = {"default": ("",), "avx2": ("V4", "AVX512"), "avx512": ()}[level]
    available = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    return " ".join(name for name in available if any(part in name for part in above))


def settings() -> dict[str, tuple[dict[str, str], list[str]]]:
    """By name: the environment, and pytest's options and files."""
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    for level, (in_torch, in_onednn, in_mkl) in LEVELS.items():
        if level == "avx512" and not has_avx512:
            continue
        for threads in ("1", "2"):
            environment = {
                "ATEN_CPU_CAPABILITY": in_torch,
                "ONEDNN_MAX_CPU_ISA": in_onednn,
                "MKL_ENABLE_INSTRUCTIONS": in_mkl,
                "NPY_DISABLE_CPU_FEATURES": disabled_in_numpy(level),
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            }
            found[f"{level}-{threads}"] = (environment, TESTS)
    for seed in SEEDS:
        found[f"seed-{seed}"] = ({}, [f"--hypothesis-seed={seed}", *DRAWN_TESTS])
    return found


def main(names: list[str]) -> int:
    available = settings()
    if unknown := set(names) - set(available):
        print(f"This CPU has no {', '.join(sorted(unknown))}; there are {', '.join(available)}.")
        return 2
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        flush=True,
    )
    failed = False
    for name in names or available:
        environment, arguments = available[name]
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = done.stdout.strip().splitlines()
        print(f"{name:12} {time.monotonic() - begun:6.0f} s  {output[-1] if output else ''}", flush=True)
        if done.returncode:
            failed = True
            print(
                "\n".join(line for line in output if line.startswith(("FAILED", "ERROR", "E  "))), flush=True
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
