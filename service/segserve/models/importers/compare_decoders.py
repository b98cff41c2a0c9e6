"""The comparison of a SAM bundle's decoders with each other, and of its embedding with a stored one. Needs no torch.

The fast decoders and the stock decoder are independent graphs of one function: segment-anything's own export on one
side, our rewriting on the other. A bundle whose decoders disagree is refused.
"""

from dataclasses import dataclass

import numpy as np

from segserve.models.bundle import Bundle
from segserve.models.importers.compare_arrays import check_error, error_over_max, error_over_std
from segserve.models.manifest import ModelKind
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.templates.published_embeddings import make_test_picture, sample_embedding
from segserve.types import Float32

ENCODER_TOLERANCE = 1e-3  # largest error over the largest value
LOGIT_TOLERANCE = 1e-4  # largest error over the standard deviation
SCORE_TOLERANCE = 1e-3
# The embedding's arrays -> the stock decoder's inputs.
STOCK_NAMES = {
    "embedding": "image_embeddings",
    "high_res_0": "high_res_feats_0",
    "high_res_1": "high_res_feats_1",
}
# SAM 2's stock decoder clamps its logits.
SAM2_LOGIT_LIMIT = 32.0
ALL_MASK_TOKENS = [0, 1, 2, 3]
MANY_POINTS = 20  # enough points for the decoder that does not fold
PADDING_POINT = (0.0, 0.0)
PADDING_LABEL = -1.0
TOP_LEFT, BOTTOM_RIGHT = 2.0, 3.0


@dataclass(frozen=True)
class TestPrompt:
    """A prompt as the graphs read it. coords: [N, 2] in input pixels. labels: [N]. prior: logits [low, low]."""

    name: str
    coords: Float32
    labels: Float32
    prior: Float32 | None = None


def compare_decoders(bundle: Bundle, published: Float32 | None = None) -> None:
    """Encode a built-in picture and decode one prompt of each sort by both decoders.

    published: `sample_embedding` of that picture, as the library computed it for the same checkpoint.

    Raises BrokenModel, naming what differs by how much, also where the weights are not finite.
    """
    options = RuntimeOptions.for_trial()
    model = PromptableModel(bundle, options, options)
    stock = OnnxGraph(bundle.path("decoder.onnx"), options)
    size, low = model.manifest.preprocess.input_size, model.manifest.dims.low
    features = model.encode(make_test_picture(size))
    sample = sample_embedding(features["embedding"])
    # Without a published embedding this tells whether the weights are finite.
    error = error_over_max(sample, sample if published is None else published)
    check_error("encoder", error, ENCODER_TOLERANCE)
    for prompt in make_test_prompts(size, low):
        prior = np.zeros((low, low), np.float32) if prompt.prior is None else prompt.prior
        expected = stock.run(
            {
                **{STOCK_NAMES[name]: value[None] for name, value in features.items()},
                "point_coords": prompt.coords[None],
                "point_labels": prompt.labels[None],
                "mask_input": prior[None, None],
                "has_mask_input": np.array([float(prompt.prior is not None)], np.float32),
                "orig_im_size": np.array([low, low], np.float32),
            }
        )
        logits, scores = model.decode(
            model.prepare(features, prompt.prior), prompt.coords, prompt.labels, ALL_MASK_TOKENS
        )
        if model.manifest.kind is ModelKind.SAM2:
            logits = logits.clip(-SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
        error = error_over_std(logits, expected["low_res_masks"][0])
        check_error(f"decoder ({prompt.name})", error, LOGIT_TOLERANCE)
        error = float(np.abs(scores - expected["iou_predictions"][0]).max())
        check_error(f"decoder's scores ({prompt.name})", error, SCORE_TOLERANCE)


def make_test_prompts(size: int, low: int) -> list[TestPrompt]:
    """Return one prompt of each sort. size: edge of the input, pixels. low: edge of the low-res logits."""
    random = np.random.default_rng(0)

    def prompt(name: str, points: int, box: bool = False, prior: Float32 | None = None) -> TestPrompt:
        coords = (random.random((points, 2)) * size).tolist()
        labels = random.integers(0, 2, points).tolist()
        if box:
            coords += [[0.2 * size, 0.3 * size], [0.7 * size, 0.8 * size]]
            labels += [TOP_LEFT, BOTTOM_RIGHT]
        else:
            coords, labels = [*coords, PADDING_POINT], [*labels, PADDING_LABEL]
        return TestPrompt(name, np.array(coords, np.float32), np.array(labels, np.float32), prior)

    return [
        prompt("a point", 1),
        prompt("a box", 0, box=True),
        prompt("points and a box", 3, box=True),
        prompt("many points", MANY_POINTS),
        prompt("a point and a prior mask", 1, prior=random.normal(size=(low, low)).astype(np.float32)),
    ]
