"""Lossless JPEG: what the decoder reads behind damaged data is always the same."""

import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from segserve.images.sandboxed.lossless_jpeg import decode_lossless_jpeg
from tests.images.sandboxed.picture_files import GREY, RGB

# Fills new memory with a byte, then decodes a file.
DECODE = """
import sys
from pathlib import Path
from segserve.images.sandboxed.lossless_jpeg import decode_lossless_jpeg
print(decode_lossless_jpeg(Path(sys.argv[1]).read_bytes(), 24 * 36 * 3).tobytes().hex())
"""


@pytest.mark.parametrize("values", [RGB, GREY])
def test_pixels_are_those_that_were_encoded(values: np.ndarray) -> None:
    decoded = decode_lossless_jpeg(encode(values), values.size)
    assert (decoded == values).all()


def encode(values: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg_encode(values, lossless=True))


def test_damaged_data_show_nothing_of_the_memory_behind_them(tmp_path: Path) -> None:
    data = encode(RGB)
    (tmp_path / "short.jpg").write_bytes(data[: 2 * len(data) // 3] + data[-2:])
    decoded = set()
    for filling in (0x55, 0xA3):
        environment = {
            **os.environ,
            "GLIBC_TUNABLES": f"glibc.malloc.perturb={filling}:glibc.malloc.tcache_count=0",
        }
        command = [sys.executable, "-c", DECODE, str(tmp_path / "short.jpg")]
        decoded.add(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)
    assert len(decoded) == 1
