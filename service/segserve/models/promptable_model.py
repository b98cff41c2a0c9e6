"""A loaded promptable model (the SAM family): encode an image, prepare it for the decoder, decode a prompt.

All graphs are open, so replacing the bundle on disk changes nothing for a loaded model.
"""

from copy import copy
from dataclasses import replace
from math import prod
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from segserve.errors import NoAutomaticDecoder
from segserve.models.bundle import FP16_ENCODER_FILE, Bundle
from segserve.models.manifest import Manifest, PromptableManifest
from segserve.models.runtime.graph import DeviceArray, Graph, HostOrDeviceArrays
from segserve.models.runtime.open_graph import open_graph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device, Embedding, Float32, Precision

AIS_DECODER_FILE = "ais.onnx"
FINE_PREPARATION_FILE = "prepare_fine.onnx"
# The arrays of an embedding, in the order of the encoders' outputs. SAM has the first alone.
FEATURE_NAMES = ("embedding", "high_res_0", "high_res_1")
# From this number of tokens on, fast_decoder_many.onnx is faster. With 8 heads of 16 channels, folding and projecting
# cost the same there. See `models.export.fast_decoder`.
FOLD_BELOW_TOKENS = 16
# Values of an embedding up to which one thread decodes a click as fast as two: handing the work over costs what it
# saves. The starter has half as many (5.0 ms against 5.5 with two threads, and 1.4 times the clicks a second by two
# callers at once), SAM four times as many (38 against 25). Measured on 2 cores of an AMD EPYC.
MAX_SINGLE_THREAD_VALUES = 1 << 18
# The tokens beside the points: the scores, four masks, and SAM 2's object token.
MAX_OUTPUT_TOKENS = 6


def digest_embeddings(bundle: Bundle, precision: Precision) -> str:
    """Return what tells the bundle's embeddings of this precision from all others."""
    return bundle.digest if precision is Precision.FP32 else f"{bundle.digest}-{precision}"


class LoadedModel(Protocol):
    """A model of any kind, its graphs open."""

    MANIFEST_TYPE: ClassVar[type[Manifest]]
    bundle: Bundle


class PromptableModel:
    """`PromptableModel` runs the graphs of a promptable bundle.

    encoder, decoder, whole_image: how to run each part; None where this process does not run it.
    embedding_precision: of the embeddings that it decodes.
    single_threaded: the same model, each run of its click decoder in the caller's thread alone. It decodes many
        clicks at once without taking threads from those that answer people's clicks. On a GPU it is this model.
    """

    MANIFEST_TYPE: ClassVar[type[Manifest]] = PromptableManifest
    DECODER_GRAPHS: ClassVar[tuple[str, ...]] = (
        "prepare.onnx",
        "fast_decoder.onnx",
        "fast_decoder_many.onnx",
    )
    CLICK_GRAPH: ClassVar[str] = "fast_decoder.onnx"  # the one of them that decodes a single point

    def __init__(
        self,
        bundle: Bundle,
        encoder: RuntimeOptions | None,
        decoder: RuntimeOptions | None,
        whole_image: RuntimeOptions | None = None,
        embedding_precision: Precision = Precision.FP32,
    ) -> None:
        self.bundle = bundle
        self.embedding_precision = embedding_precision
        self.manifest = bundle.expect(PromptableManifest)
        self.preprocess = self.manifest.preprocess.to_preprocess()
        if decoder is not None and prod(self.manifest.dims.embedding) <= MAX_SINGLE_THREAD_VALUES:
            decoder = replace(decoder, threads=1)
        automatic = (AIS_DECODER_FILE,) if bundle.has(AIS_DECODER_FILE) else ()
        decoders = self.list_decoder_graphs(self.manifest)
        parts = ((("encoder.onnx",), encoder), (decoders, decoder), (automatic, whole_image))
        self._graphs = {
            file: open_graph(bundle.path(self._choose_file(file, options)), options)
            for files, options in parts
            if options is not None
            for file in files
        }
        # Grids of clicks are decoded where whole images are segmented.
        self.single_threaded = self._make_single_threaded(decoder) if decoder and whole_image else self

    @classmethod
    def list_decoder_graphs(cls, manifest: PromptableManifest) -> tuple[str, ...]:
        """Return the files of the graphs that decode clicks."""
        fine = (FINE_PREPARATION_FILE,) if FINE_PREPARATION_FILE in manifest.files else ()
        return (*cls.DECODER_GRAPHS, *fine)

    def _make_single_threaded(self, decoder: RuntimeOptions) -> Self:
        if decoder.device is Device.CUDA or decoder.threads == 1:
            return self
        graph = open_graph(self.bundle.path(self.CLICK_GRAPH), replace(decoder, threads=1))
        other = copy(self)
        other._graphs = {**self._graphs, self.CLICK_GRAPH: graph}
        return other

    def _choose_file(self, graph: str, options: RuntimeOptions) -> str:
        """Return the file of a graph: of the encoder the fp16 one, where it may be run and exists."""
        fp16 = graph == "encoder.onnx" and options.fp16 and self.bundle.has(FP16_ENCODER_FILE)
        return FP16_ENCODER_FILE if fp16 else graph

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def embedding_digest(self) -> str:
        """The part of an embedding's key that says what computed it: the bundle, and a precision other than fp32."""
        return digest_embeddings(self.bundle, self.embedding_precision)

    def encode(self, image: Float32) -> Embedding:
        """Encode image [1, 3, S, S] into embedding [C, g, g] and, for SAM 2 and the starter, high_res_0 and
        high_res_1; float32."""
        return self.encode_batch(image)[0]

    def encode_batch(self, images: Float32) -> list[Embedding]:
        """Encode images [N, 3, S, S], each as `encode` does. Raises OutOfMemory.

        They are encoded together where the graph takes several images, otherwise one after another.
        """
        if len(images) > 1 and not self._graphs["encoder.onnx"].is_batched:
            return [self.encode(images[i : i + 1]) for i in range(len(images))]
        features = self._run_encoder(images)
        return [{name: array[i] for name, array in features.items()} for i in range(len(images))]

    def _run_encoder(self, images: Float32) -> Embedding:
        return self._graphs["encoder.onnx"].run({"image": images})

    def prepare(
        self, embedding: Embedding, mask_input: Float32 | None, earlier: HostOrDeviceArrays | None = None
    ) -> HostOrDeviceArrays:
        """Return the decoder's inputs that depend on the image, float32, in the decoder's memory.

        mask_input: low-res logits [4g, 4g] of a prior mask.
        earlier: the result of an earlier call for the same embedding; its arrays are used again.

        Raises OutOfMemory.
        """
        graph, low, earlier = self._graphs["prepare.onnx"], self.manifest.dims.low, earlier or {}
        prior = np.zeros((low, low), np.float32) if mask_input is None else mask_input
        features = self._features(graph, embedding, {"embedding": "embedding"}, earlier)
        inputs = {
            **features,
            "mask_input": prior[None, None],
            "has_mask": np.array([float(mask_input is not None)], np.float32),
        }
        prepared = {**self._prepare_fine(embedding, earlier), **graph.run_on_device(inputs)}
        # On the host, casting the fp16 embedding again costs less than keeping this.
        return {**features, **prepared} if graph.keeps_on_device else prepared

    def _prepare_fine(self, embedding: Embedding, earlier: HostOrDeviceArrays) -> HostOrDeviceArrays:
        """Return the fine features as the click decoder reads them; nothing for SAM.

        Bundles of segserve 0.2 have no graph for this: their click decoder reads the features as they are.
        """
        graph = self._graphs.get(FINE_PREPARATION_FILE)
        if graph is None:
            names = {name: name for name in FEATURE_NAMES[1:] if name in embedding}
            return self._features(self._graphs["prepare.onnx"], embedding, names, earlier)
        if all(name in earlier for name in graph.outputs):
            return {name: earlier[name] for name in graph.outputs}
        return graph.run_on_device({name: embedding[name].astype(np.float32)[None] for name in graph.inputs})

    def _features(
        self, graph: Graph, embedding: Embedding, names: dict[str, str], earlier: HostOrDeviceArrays
    ) -> dict[str, NDArray[Any] | DeviceArray]:
        """Return the embedding's arrays as a graph reads them: float32 with a batch axis, in the graph's memory.

        names: the embedding's names -> the graph's names.
        """
        return {
            name: earlier[name]
            if name in earlier
            else graph.to_device(embedding[key].astype(np.float32)[None])
            for key, name in names.items()
        }

    def decode(
        self, prepared: HostOrDeviceArrays, coords: Float32, labels: Float32, channels: list[int]
    ) -> tuple[Float32, Float32]:
        """Decode one prompt into logits [M, 4g, 4g] and the scores [4] of all four mask tokens.

        prepared: the result of `prepare`.
        coords: [N, 2] in input pixels.
        labels: [N], as the graph reads them.
        channels: M mask tokens of 0..3.
        """
        inputs = {
            **prepared,
            "point_coords": coords[None].astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            "channels": np.array(channels, np.int64),
        }
        many = len(coords) + MAX_OUTPUT_TOKENS >= FOLD_BELOW_TOKENS
        answer = self._graphs["fast_decoder_many.onnx" if many else "fast_decoder.onnx"].run(inputs)
        return answer["low_res"], answer["scores"]

    @property
    def has_ais_decoder(self) -> bool:
        """Whether the model has a decoder for automatic instance segmentation."""
        return self.bundle.has(AIS_DECODER_FILE)

    def predict_ais_maps(self, embedding: Embedding) -> Float32:
        """Return maps [3, h, h] from 0 to 1: foreground, distance to the object's centre, inverted distance to its
        boundary. Raises NoAutomaticDecoder, OutOfMemory."""
        if not self.has_ais_decoder:
            raise NoAutomaticDecoder(self.name)
        graph = self._graphs[AIS_DECODER_FILE]
        inputs = {name: embedding[name].astype(np.float32)[None] for name in graph.inputs}
        maps: Float32 = graph.run(inputs)["maps"][0]
        return maps
