"""ONNX pairs, an encoder and a decoder that others have exported. A click takes longer than with the fast graphs.

    SAM             image_embeddings, point_coords, point_labels, mask_input, has_mask_input, orig_im_size
                    -> masks, iou_predictions, low_res_masks
    SAM 2           the same with two inputs high_res..., orig_im_size where it has it; adds the padding point itself
                    -> masks, iou_predictions
    EfficientSAM    image_embeddings, batched_point_coords, batched_point_labels, orig_im_size
                    -> output_masks, iou_predictions; takes no prior mask, at most 6 points

The import brings other names and orders to these (`importers.pair_interface`). No graph is asked for masks at the
image's size: `masks.upscale` makes them for all models alike.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.manifest import BundleRuntime, ModelKind, PromptableManifest
from segserve.models.promptable_model import FEATURE_NAMES, PromptableModel
from segserve.models.runtime.graph import Graph, HostOrDeviceArrays
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Embedding, Float32, Precision

# The label of SAM's padding point, which stands where a prompt has no box.
PADDING_LABEL = -1
# EfficientSAM's decoder_max_num_input_points; its graph drops any further point.
MAX_EFFICIENT_SAM_POINTS = 6


class OnnxPairModel(PromptableModel):
    """`OnnxPairModel` runs a pair with the interface of segment-anything's export, or SAM 2's like it."""

    DECODER_GRAPHS: ClassVar[tuple[str, ...]] = ("decoder.onnx",)
    CLICK_GRAPH: ClassVar[str] = "decoder.onnx"

    @property
    def _decoder(self) -> Graph:
        return self._graphs["decoder.onnx"]

    def _run_encoder(self, images: Float32) -> Embedding:
        encoder = self._graphs["encoder.onnx"]
        return dict(zip(FEATURE_NAMES, encoder.run({encoder.inputs[0]: images}).values(), strict=False))

    def prepare(
        self, embedding: Embedding, mask_input: Float32 | None, earlier: HostOrDeviceArrays | None = None
    ) -> HostOrDeviceArrays:
        """Return the decoder's inputs that do not depend on the click; see `PromptableModel.prepare`.

        Raises BadInput for a prior mask where the graph has no input for it.
        """
        if mask_input is not None and "mask_input" not in self._decoder.inputs:
            raise self._no_mask_input()
        low = self.manifest.dims.low
        prior = np.zeros((low, low), np.float32) if mask_input is None else mask_input
        fine = sorted(name for name in self._decoder.inputs if name.startswith("high_res"))
        names = {
            k: n for k, n in zip(FEATURE_NAMES, ["image_embeddings", *fine], strict=False) if k in embedding
        }
        return {
            **self._features(self._decoder, embedding, names, earlier or {}),
            "mask_input": self._decoder.to_device(prior[None, None]),
            "has_mask_input": np.array([float(mask_input is not None)], np.float32),
        }

    def _no_mask_input(self) -> BadInput:
        return BadInput(
            f"Model {self.name!r} takes no mask as a prompt.",
            field="prompts",
            remedy="Give points or a box, or take another model.",
        )

    def decode(
        self, prepared: HostOrDeviceArrays, coords: Float32, labels: Float32, channels: list[int]
    ) -> tuple[Float32, Float32]:
        """Decode one prompt; see `PromptableModel.decode`.

        The graph's best mask stands in for a mask token that the graph does not return. A graph without the single
        mask returns its best candidate for it; a graph with a single mask alone returns that one for every token.
        """
        answers = self.run_decoder(prepared, coords, labels)
        logits, scores = self.read_logits(answers), answers[1].reshape(-1)
        masks, best = self.manifest.dims.masks, int(scores.argmax())
        position = [masks.index(token) if token in masks else best for token in range(4)]
        return logits[[position[c] for c in channels]], scores[position]

    def run_decoder(
        self, prepared: HostOrDeviceArrays, coords: Float32, labels: Float32
    ) -> list[NDArray[Any]]:
        """Return all outputs, in the graph's order."""
        if self.manifest.kind is ModelKind.SAM2:
            coords, labels = drop_padding_points(coords, labels)
        return list(
            self._decoder.run(
                {
                    **prepared,
                    "point_coords": coords[None].astype(np.float32),
                    "point_labels": labels[None].astype(np.float32),
                    "orig_im_size": self._image_size,
                }
            ).values()
        )

    @property
    def _image_size(self) -> NDArray[Any]:
        """The image size that the graph is told: small, so that the graph spends little time on resizing."""
        dtype = np.int64 if "orig_im_size" in self._decoder.integers else np.float32
        return np.array([self.manifest.dims.low] * 2, dtype)

    def read_logits(self, answers: list[NDArray[Any]]) -> Float32:
        """Return the low-res logits [M, low, low].

        Where the image fills the square, the graph's masks at low-res size are the logits. They are better than its
        low_res_masks, which are clamped.
        """
        low = self.manifest.dims.low
        position = 2 if self.manifest.preprocess.resize == "pad" else 0
        return answers[position].reshape(-1, low, low)


class EfficientSamModel(OnnxPairModel):
    """`EfficientSamModel` runs EfficientSAM's published pair.

    Its graph resizes any image to a square, so it is given a square image, values 0 to 1.
    """

    def prepare(
        self, embedding: Embedding, mask_input: Float32 | None, earlier: HostOrDeviceArrays | None = None
    ) -> HostOrDeviceArrays:
        """Return the decoder's inputs that do not depend on the click.

        Raises BadInput for a prior mask: this decoder has no input for it.
        """
        if mask_input is not None:
            raise self._no_mask_input()
        return self._features(self._decoder, embedding, {"embedding": "image_embeddings"}, earlier or {})

    def run_decoder(
        self, prepared: HostOrDeviceArrays, coords: Float32, labels: Float32
    ) -> list[NDArray[Any]]:
        """Return all outputs, in the graph's order. Raises BadInput for more points than the graph reads."""
        coords, labels = drop_padding_points(coords, labels)
        if len(coords) > MAX_EFFICIENT_SAM_POINTS:
            raise BadInput(
                f"Model {self.name!r} reads at most {MAX_EFFICIENT_SAM_POINTS} points; a box counts as two.",
                field="prompts",
                remedy="Give fewer points, or take another model.",
            )
        # The graph reads coordinates as pixels of an image of orig_im_size.
        scaled = coords * np.float32(self.manifest.dims.low / self.manifest.preprocess.input_size)
        return list(
            self._decoder.run(
                {
                    **prepared,
                    "batched_point_coords": scaled[None, None].astype(np.float32),
                    "batched_point_labels": labels[None, None].astype(np.float32),
                    "orig_im_size": self._image_size,
                }
            ).values()
        )


def drop_padding_points(coords: Float32, labels: Float32) -> tuple[Float32, Float32]:
    """Return coords [N, 2] and labels [N] without the padding points."""
    real = labels != PADDING_LABEL
    return coords[real], labels[real]


MODEL_CLASSES: dict[BundleRuntime, type[PromptableModel]] = {
    BundleRuntime.FAST: PromptableModel,
    BundleRuntime.STOCK: OnnxPairModel,
    BundleRuntime.EFFICIENT_SAM: EfficientSamModel,
}


def open_promptable_model(
    bundle: Bundle,
    encoder: RuntimeOptions | None,
    decoder: RuntimeOptions | None,
    whole_image: RuntimeOptions | None = None,
    embedding_precision: Precision = Precision.FP32,
) -> PromptableModel:
    """Open the bundle's graphs and return the model that runs them. Raises BrokenModel, WrongModel."""
    model_class = MODEL_CLASSES[bundle.expect(PromptableManifest).runtime]
    return model_class(bundle, encoder, decoder, whole_image, embedding_precision)
