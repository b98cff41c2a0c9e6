"""All objects of one slice or frame by AIS, and what the slice shows of them."""

import numpy as np

from segserve.automatic.segmenter import label_by_ais
from segserve.decode.object_descriptor import measure_descriptors
from segserve.decode.prompt_encoding import logits_geometry
from segserve.encode.prepared_cache import PreparedImage
from segserve.jobs.kinds.slice_labels import LabelledSlice
from segserve.masks import label_map
from segserve.models.manifest import AisEntry
from segserve.models.promptable_model import PromptableModel
from segserve.projection.object_evidence import measure_contrast
from segserve.timing import Timings
from segserve.types import Size, UInt8


def label_slice(
    model: PromptableModel, image: PreparedImage, pixels: UInt8, params: AisEntry, timings: Timings
) -> LabelledSlice:
    """Return the objects of a slice, RGB [H, W, 3], and the evidence for them.

    image: of the slice, or of the slice with room beside it.

    Blocks. Raises NoAutomaticDecoder.
    """
    labels = label_by_ais(model, image.embedding, image.size, params, timings, Size(*pixels.shape[:2]))
    with timings.stage("postprocess"):
        embedding, geometry = image.embedding["embedding"], logits_geometry(model.manifest, image.size)
        height, width = embedding.shape[-2:]
        cells_per_px = (
            geometry.valid.height / image.size.height * height / geometry.square,
            geometry.valid.width / image.size.width * width / geometry.square,
        )
        contrasts = [measure_contrast(pixels, crop) for crop in label_map.to_crops(labels)]
        return LabelledSlice(
            labels,
            measure_descriptors(embedding, labels, cells_per_px),
            np.array(contrasts, np.float32).reshape(-1, 3),
        )
