"""MobileSAM's encoder: ONNX Runtime against eager PyTorch, with the same number of threads, in one run."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from mobile_sam import sam_model_registry

from bench import real_weights
from bench.measuring import THREADS, Measurement, at_least, measure_interleaved_ms
from segserve.encode.preprocess import preprocess_image
from segserve.models.export.sam import export_sam
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions


def measure() -> list[Measurement]:
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    options = RuntimeOptions(threads=THREADS)
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        if real_weights.uses_real_weights():
            sam = real_weights.build_network()
            model = PromptableModel(real_weights.open_bundle(), options, options)
            picture = real_weights.read_photograph((1024, 1024))
            image = torch.from_numpy(preprocess_image(picture, model.preprocess))
        else:
            sam, image = sam_model_registry["vit_t"]().eval(), torch.randn(1, 3, 1024, 1024)
            bundle = export_sam(sam, Path(work) / "m", name="m", architecture="vit_t")
            model = PromptableModel(bundle, options, options)
        ours, reference = model.encode(image.numpy())["embedding"], sam.image_encoder(image)[0].numpy()
        times = measure_interleaved_ms(
            {
                "torch eager": lambda: sam.image_encoder(image),
                "ONNX Runtime": lambda: model.encode(image.numpy()),
            },
            repeats=5,
        )
    return [
        real_weights.describe_weights("random; the image is noise"),
        *(Measurement(f"MobileSAM encoder, {name}", f"{ms:.0f} ms") for name, ms in times.items()),
        Measurement(
            "largest difference over the standard deviation",
            f"{np.abs(ours - reference).max() / reference.std():.2g}",
            "<= 0.001",
            bool(np.abs(ours - reference).max() / reference.std() <= 1e-3),
        ),
        at_least("MobileSAM encoder against torch eager", times["torch eager"] / times["ONNX Runtime"], 2.5),
    ]
