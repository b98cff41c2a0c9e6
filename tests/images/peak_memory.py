"""Measure in a process of its own how much memory reading an image takes at its peak.

    python -m tests.images.peak_memory FOLDER

Reads a JSON list of [path, "read" or "pyramid", read options] from standard input. Writes a line for each: JSON
[estimate, peak] in bytes. The peak is the growth of the resident set, as Linux counts it.
"""

import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyvips  # imported here, so that it does not count

from segserve.images import tile_pyramid
from segserve.images.memory_estimate import estimate_pyramid_bytes, estimate_read_bytes
from segserve.images.read_image import decode_source, open_image
from segserve.types import Normalise, ReadOptions

MAX_PIXELS = 10**9


def read_status(name: str) -> int:
    """Return a number of bytes from the process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def start_measuring() -> int:
    """Forget the peak so far. Return the size of the resident set."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return read_status("VmRSS")


def measure(path: str, what: str, options: dict[str, Any]) -> tuple[int, int]:
    """Return (estimate, peak)."""
    if "normalise" in options:
        options["normalise"] = Normalise(options["normalise"])
    if "channels" in options:
        options["channels"] = tuple(options["channels"])
    read_options = ReadOptions(**options)
    with open(path, "rb") as file:
        before = start_measuring()
        source = open_image(file, read_options.page, MAX_PIXELS, MAX_PIXELS)
        if what == "read":
            estimate = estimate_read_bytes(source, read_options)
            decode_source(source, read_options)
        else:
            estimate = estimate_pyramid_bytes(source, read_options)
            tile_pyramid.write_pyramid(source, read_options, lambda *_: None)
        return estimate, read_status("VmHWM") - before


def main() -> None:
    pyvips.cache_set_max(0)
    for case in json.load(sys.stdin):
        # A process for each, so that none takes memory that another left.
        child = os.fork()
        if not child:
            print(json.dumps(measure(*case)), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, case


if __name__ == "__main__":
    main()
