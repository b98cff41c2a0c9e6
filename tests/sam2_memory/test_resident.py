"""Tracking an object through a long video takes no more memory (RSS) than through a short one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sam2")

ROOT = Path(__file__).parents[2]
TRACK_LONG_VIDEO = """
import re, sys, torch
from pathlib import Path
from tests.sam2_memory.reference import COUNT, frames, points, session

torch.set_num_threads(1)
video = session(image_size=256, count=1001)
video.add_prompt(0, frames()[0], 1, points((50, 30, 1)))
for frame in range(1001):
    video.track(frame, frames()[frame % COUNT])
    if frame in (150, 1000):
        print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], flush=True)
"""


@pytest.mark.large
def test_a_thousand_frames_take_no_more_memory_than_150() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACK_LONG_VIDEO], cwd=ROOT, check=True, capture_output=True, text=True
    )
    early, late = map(int, done.stdout.split())
    print(f"{early / 1024:.0f} MiB at frame 150, {late / 1024:.0f} at frame 1,000")
    assert late < 1.1 * early
