"""What an object costs that is followed through a video beside another, by SAM 2's memory: base+ at 1024 px, random
weights, every object with a full memory (7 frames, 16 pointers).

In processor time, of both threads together. BENCH_MEMORY_FRAMES (10) is how many frames are followed.
"""

import os
import time

import numpy as np
import torch

from bench.common import REHEARSE, THREADS, Line, at_most
from segserve.models.networks.sam2 import build_sam2_network
from segserve.sam2_memory.memory_bank import FrameMemory
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.types import Prompt, Size, UInt8

FRAMES = int(os.environ.get("BENCH_MEMORY_FRAMES", "1" if REHEARSE else "10"))
SIZE = Size(720, 1280)
BEFORE = 40  # frames that lie behind, as the session sees it
WANTED = 0.6


def following(tracker: Sam2VideoNetwork, objects: int, first: UInt8) -> Sam2Session:
    """A session that is at frame BEFORE, its memories copies of the first: values do not change what they cost."""
    session = Sam2Session(tracker, SIZE, BEFORE + FRAMES + 1)
    for number in range(objects):
        points = np.array([[200 + 300 * number, 300]], np.float32)
        session.add_prompt(0, first, number, Prompt(points=points, labels=np.ones(1, np.int64)))
    session.track(0, first)
    for bank in session.banks.values():
        made = bank.prompted[0]
        for frame in range(1, BEFORE + 1):
            bank.tracked[frame] = FrameMemory(made.pointer, made.features, None, 0.0)
    session.last_frame = BEFORE
    return session


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    tracker = Sam2VideoNetwork(
        build_sam2_network("2.1_tiny" if REHEARSE else "2.1_base_plus", image_size=128 if REHEARSE else None)
    )
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (FRAMES + 1, SIZE.height, SIZE.width, 3), np.uint8)
    sessions = {count: following(tracker, count, video[0]) for count in (1, 2)}
    encode = tracker.encode
    spent: dict[object, list[float]] = {"encoder": [], 1: [], 2: []}
    for index, rgb in enumerate(video[1:]):
        frame = BEFORE + 1 + index
        start = time.process_time()
        with tracker.inference():
            encoded = encode(rgb)
        spent["encoder"].append(time.process_time() - start)
        tracker.encode = lambda rgb, found=encoded: found
        for count, session in sessions.items():
            contexts = [
                bank.build_context(frame, session.reach, reverse=False) for bank in session.banks.values()
            ]
            assert {context.shape for context in contexts} == {(7, 16)}
            start = time.process_time()
            session.track(frame, rgb)
            spent[count].append(time.process_time() - start)
    return lines({name: float(np.median(times)) for name, times in spent.items()})


def lines(spent: dict[object, float]) -> list[Line]:
    encoder, first, added = spent["encoder"], spent[1], spent[2] - spent[1]
    about = f"per frame, {FRAMES} frames, processor time"
    return [
        Line(f"image encoder, {about}", f"{encoder:.2f} s"),
        Line(f"the first object without the encoder, {about}", f"{first:.2f} s"),
        Line(f"an added object, {about}", f"{added:.2f} s"),
        at_most("an added object against the first with its encoder", added / (encoder + first), WANTED, "x"),
        Line("an added object against the first without the encoder", f"{added / first:.2f}x"),
    ]
