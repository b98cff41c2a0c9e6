"""Import MedSAM: SAM vit_b fine-tuned on medical images, with its own way of preparing them.

Its inference script (bowang-lab/MedSAM, MedSAM_Inference.py) stretches an image of any shape to the square, maps the
smallest and largest value to 0 and 1, and applies no mean and deviation. It was trained on boxes.
"""

from pathlib import Path
from typing import Any

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.sam import SamImporter
from segserve.models.manifest import PreprocessEntry, PromptableManifest


class MedSamImporter(SamImporter):
    def export(self, network: Any, folder: Path, *, name: str, architecture: str, card: ModelCard) -> Bundle:
        bundle = super().export(network, folder, name=name, architecture=architecture, card=card)
        manifest = bundle.expect(PromptableManifest)
        preprocess = PreprocessEntry(
            input_size=manifest.preprocess.input_size,
            mean=(0.0, 0.0, 0.0),
            std=(255.0, 255.0, 255.0),
            resize="stretch",
            stretch_percentiles=(0.0, 100.0),
        )
        return write_manifest(folder, manifest.model_copy(update={"preprocess": preprocess}))


IMPORTER = MedSamImporter()
write_bundle = IMPORTER.write_bundle
