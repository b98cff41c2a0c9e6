"""SAM 2's memory in a video: the CPU time that a second object adds to the first.

The model is base+ at 1024 px with random weights. Every object has a full memory (7 frames, 16 pointers). CPU time is
that of both threads together. BENCH_MEMORY_FRAMES (default 10) is the number of tracked frames.
"""

import os
import time

import numpy as np
import torch

from bench.measuring import REHEARSE, THREADS, Measurement, at_most
from segserve.models.networks.sam2 import build_sam2_network
from segserve.sam2_memory.memory_bank import FrameMemory
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.types import Prompt, Size, UInt8

FRAMES = int(os.environ.get("BENCH_MEMORY_FRAMES", "1" if REHEARSE else "10"))
SIZE = Size(720, 1280)
PAST_FRAMES = 40  # that the session has tracked already
MAX_RATIO = 0.6  # of an added object to the first


def build_session(tracker: Sam2VideoNetwork, objects: int, first: UInt8) -> Sam2Session:
    """Return a session at frame `PAST_FRAMES`.

    Its memories are copies of the first one, since values do not change the time.
    """
    session = Sam2Session(tracker, SIZE, PAST_FRAMES + FRAMES + 1)
    for number in range(objects):
        points = np.array([[200 + 300 * number, 300]], np.float32)
        session.add_prompt(0, first, number, Prompt(points=points, labels=np.ones(1, np.int64)))
    session.track(0, first)
    for bank in session.banks.values():
        memory = bank.prompted[0]
        for frame in range(1, PAST_FRAMES + 1):
            bank.tracked[frame] = FrameMemory(memory.pointer, memory.features, None, 0.0)
    session.last_frame = PAST_FRAMES
    return session


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    tracker = Sam2VideoNetwork(
        build_sam2_network("2.1_tiny" if REHEARSE else "2.1_base_plus", image_size=128 if REHEARSE else None)
    )
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (FRAMES + 1, SIZE.height, SIZE.width, 3), np.uint8)
    sessions = {count: build_session(tracker, count, video[0]) for count in (1, 2)}
    encode = tracker.encode
    cpu_seconds: dict[object, list[float]] = {"encoder": [], 1: [], 2: []}
    for index, rgb in enumerate(video[1:]):
        frame = PAST_FRAMES + 1 + index
        start = time.process_time()
        with tracker.inference():
            encoded = encode(rgb)
        cpu_seconds["encoder"].append(time.process_time() - start)
        tracker.encode = lambda rgb, features=encoded: features
        for count, session in sessions.items():
            contexts = [
                bank.build_context(frame, session.reach, reverse=False) for bank in session.banks.values()
            ]
            assert {context.shape for context in contexts} == {(7, 16)}
            start = time.process_time()
            session.track(frame, rgb)
            cpu_seconds[count].append(time.process_time() - start)
    return build_rows({name: float(np.median(times)) for name, times in cpu_seconds.items()})


def build_rows(seconds: dict[object, float]) -> list[Measurement]:
    """Return the table. seconds: CPU time a frame of "encoder", of one object, and of two."""
    encoder, first, added = seconds["encoder"], seconds[1], seconds[2] - seconds[1]
    unit = f"per frame, {FRAMES} frames, CPU time"
    return [
        Measurement(f"image encoder, {unit}", f"{encoder:.2f} s"),
        Measurement(f"the first object without the encoder, {unit}", f"{first:.2f} s"),
        Measurement(f"an added object, {unit}", f"{added:.2f} s"),
        at_most(
            "an added object against the first with its encoder", added / (encoder + first), MAX_RATIO, "x"
        ),
        Measurement("an added object against the first without the encoder", f"{added / first:.2f}x"),
    ]
