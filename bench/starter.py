"""The starter's scores on its validation images, through the service's own encode and decode path.

Needs the nuclei data: BENCH_NUCLEI names the folder. `training/publish.py` scores the same in torch.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.common import THREADS, Line
from segserve.decode.segment import decode
from segserve.encode.prepared import PreparedImage
from segserve.encode.preprocess import apply
from segserve.evaluate.choices import Correction, Start
from segserve.evaluate.interactive import Protocol, Step, judge_image, summarise
from segserve.models.model import Model
from segserve.models.registry import BUILT_IN, Registry, Runtimes
from segserve.models.runtime import RuntimeOptions
from segserve.store.cache import pack, unpack
from segserve.timing import Timings
from segserve.types import Candidate, Prompt, Select, Size

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from scenes import read_nuclei

TARGETS = {"click": 0.75, "box": 0.80, "corrected": 0.82}
SMALLEST = 30
CLICKS = Protocol(Start.POINT, with_mask=True, steps=4, correction=Correction.DEEPEST)
BOX = Protocol(Start.BOX, with_mask=True, steps=1)


def measure() -> list[Line]:
    folder = Path(os.environ.get("BENCH_NUCLEI", "data/nuclei"))
    if not folder.exists():
        return [Line(f"skipped: there is no folder {folder}", "")]
    options = RuntimeOptions(threads=THREADS)
    model = Registry([BUILT_IN], Runtimes(options, options), 1 << 40).load("starter", Model)
    _, validation = read_nuclei(folder)
    steps: dict[Protocol, list[list[Step]]] = {CLICKS: [], BOX: []}
    with ThreadPoolExecutor(1) as worker:
        for scene in validation:
            embedding = unpack(pack(model.encode(apply(scene.image, model.preprocess))))
            image = PreparedImage(Size(*scene.mask.shape), embedding, model.prepare(embedding, None))

            def ask(prompt: Prompt, image: PreparedImage = image) -> Candidate:
                return decode(model, image, prompt, None, Select.BEST, Timings())[0]

            for protocol, found in steps.items():
                found.append(judge_image(ask, scene.mask, protocol, worker, SMALLEST).steps)
    clicks, box = (summarise(protocol, found) for protocol, found in steps.items())
    scores = {"click": clicks.iou[0], "box": box.iou[0], "corrected": clicks.iou[-1]}
    lines = [
        Line(f"{len(validation)} validation images, nuclei of {SMALLEST} px or more", str(clicks.objects))
    ]
    for name, target in TARGETS.items():
        lines.append(Line(f"mean IoU, {name}", f"{scores[name]:.3f}", f">= {target}", scores[name] >= target))
    return lines
