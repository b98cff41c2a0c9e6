"""A loaded promptable model: its graphs, all open, so that a bundle replaced on disk changes nothing."""

from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from segserve.errors import NoAutomaticDecoder
from segserve.models.bundle import FP16_ENCODER_FILE, Bundle
from segserve.models.manifest import Manifest, PromptableManifest
from segserve.models.onnx_runtime import DeviceArray, HostOrDeviceArrays, OnnxGraph, RuntimeOptions
from segserve.types import Device, Embedding, Float32

AIS_DECODER_FILE = "ais.onnx"
FOLD_BELOW_TOKENS = 16  # as `models.export.fast_decoder` exports them
MAX_OUTPUT_TOKENS = 6  # scores, four masks, and SAM 2's object token


class LoadedModel(Protocol):
    """A model of any kind, its graphs open."""

    MANIFEST_TYPE: ClassVar[type[Manifest]]
    bundle: Bundle


class PromptableModel:
    """Runs a promptable bundle's graphs: SAM and its kin.

    encoder, decoder, whole_image: how to run each part; None where this process does not run it.
    """

    MANIFEST_TYPE: ClassVar[type[Manifest]] = PromptableManifest
    DECODER_GRAPHS: ClassVar[tuple[str, ...]] = (
        "prepare.onnx",
        "fast_decoder.onnx",
        "fast_decoder_many.onnx",
    )
    CLICK_GRAPH: ClassVar[str] = "fast_decoder.onnx"  # of them that which decodes a single point

    def __init__(
        self,
        bundle: Bundle,
        encoder: RuntimeOptions | None,
        decoder: RuntimeOptions | None,
        whole_image: RuntimeOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.expect(PromptableManifest)
        self.preprocess = self.manifest.preprocess.to_preprocess()
        automatic = (AIS_DECODER_FILE,) if bundle.has(AIS_DECODER_FILE) else ()
        parts = ((("encoder.onnx",), encoder), (self.DECODER_GRAPHS, decoder), (automatic, whole_image))
        self._graphs = {
            file: OnnxGraph(bundle.path(self._file(file, options)), options)
            for files, options in parts
            if options is not None
            for file in files
        }
        self.single_threaded = self if whole_image is None else self._one_thread_a_run(whole_image)

    def _one_thread_a_run(self, whole_image: RuntimeOptions) -> Self:
        """The same model for many clicks at once, each in a thread of its caller and in no other, apart from the
        threads that answer people's clicks. On a GPU nothing differs."""
        if whole_image.device is Device.CUDA:
            return self
        graph, other = (
            OnnxGraph(self.bundle.path(self.CLICK_GRAPH), replace(whole_image, threads=1)),
            copy(self),
        )
        other._graphs = {**self._graphs, self.CLICK_GRAPH: graph}
        return other

    def _file(self, graph: str, options: RuntimeOptions) -> str:
        half = graph == "encoder.onnx" and options.fp16 and self.bundle.has(FP16_ENCODER_FILE)
        return FP16_ENCODER_FILE if half else graph

    @property
    def name(self) -> str:
        return self.bundle.name

    def encode(self, image: Float32) -> Embedding:
        """image [1, 3, S, S] -> embedding [C, g, g] and, for SAM 2, high_res_0 and high_res_1; float32."""
        return self.encode_batch(image)[0]

    def encode_batch(self, images: Float32) -> list[Embedding]:
        """images [N, 3, S, S], as `encode` of each: together where the graph takes several, one after another
        where it does not. Raises OutOfMemory."""
        if len(images) > 1 and not self._graphs["encoder.onnx"].is_batched:
            return [self.encode(images[i : i + 1]) for i in range(len(images))]
        found = self._run_encoder(images)
        return [{name: array[i] for name, array in found.items()} for i in range(len(images))]

    def _run_encoder(self, images: Float32) -> Embedding:
        return self._graphs["encoder.onnx"].run({"image": images})

    def prepare(
        self, embedding: Embedding, mask_input: Float32 | None, known: HostOrDeviceArrays | None = None
    ) -> HostOrDeviceArrays:
        """What the decoder needs of the image, float32, where the decoder runs. mask_input [4g, 4g]: low-res
        logits of a prior. known: what was prepared of the same embedding before. Raises OutOfMemory."""
        graph, low = self._graphs["prepare.onnx"], self.manifest.dims.low
        prior = np.zeros((low, low), np.float32) if mask_input is None else mask_input
        features = self._features(graph, embedding, {name: name for name in embedding}, known or {})
        inputs = {
            "embedding": features["embedding"],
            "mask_input": prior[None, None],
            "has_mask": np.array([float(mask_input is not None)], np.float32),
        }
        if (
            not graph.keeps_on_device
        ):  # made of the fp16 one again it costs less than to keep; on a device it is kept
            del features["embedding"]
        return {**features, **graph.run_on_device(inputs)}

    def _features(
        self, graph: OnnxGraph, embedding: Embedding, names: dict[str, str], known: HostOrDeviceArrays
    ) -> dict[str, NDArray[Any] | DeviceArray]:
        """The embedding's arrays under a graph's names for them, float32 with a batch axis, held for it."""
        return {
            name: known[name] if name in known else graph.to_device(embedding[key].astype(np.float32)[None])
            for key, name in names.items()
        }

    def decode(
        self, prepared: HostOrDeviceArrays, coords: Float32, labels: Float32, channels: list[int]
    ) -> tuple[Float32, Float32]:
        """coords [N, 2] in input pixels, labels [N] as the graph reads them, channels of 0..3 ->
        logits [M, 4g, 4g] and the scores [4] of all four."""
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
        """Whether there is a decoder for automatic instance segmentation."""
        return self.bundle.has(AIS_DECODER_FILE)

    def predict_ais_maps(self, embedding: Embedding) -> Float32:
        """[3, h, h], 0 to 1: foreground, distance to the object's centre, inverted distance to its boundary.
        Raises NoAutomaticDecoder, OutOfMemory."""
        if not self.has_ais_decoder:
            raise NoAutomaticDecoder(self.name)
        inputs = {"embedding": embedding["embedding"].astype(np.float32)[None]}
        maps: Float32 = self._graphs[AIS_DECODER_FILE].run(inputs)["maps"][0]
        return maps
