"""Graphs and models return the same, wherever the arrays between their runs are kept.

The device here is the CPU: ONNX Runtime binds its arrays as it binds a GPU's.
"""

import numpy as np
import pytest

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import EmbeddingKey, PreparedCache, PreparedImage
from segserve.errors import OutOfMemory
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.onnx_pair_model import OnnxPairModel
from segserve.models.promptable_model import FEATURE_NAMES, PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.graph import DeviceArray
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import Device, Embedding, Prompt, Select, Size

STARTER = Bundle(BUILT_IN_MODELS / "starter")
ON_HOST, ON_DEVICE = RuntimeOptions(), RuntimeOptions(keep_on_device=True)
SIZE = Size(300, 400)


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    random, dims = np.random.default_rng(0), STARTER.expect(PromptableManifest).dims
    shapes = zip(FEATURE_NAMES, (dims.embedding, *dims.high_res), strict=False)
    return {name: random.normal(size=shape).astype(np.float16) for name, shape in shapes}


def prompts() -> dict[str, Prompt]:
    points = np.array([[100, 60], [300, 200]], np.float32)
    many = np.random.default_rng(1).uniform(0, 300, (20, 2)).astype(np.float32)
    prior = np.random.default_rng(2).normal(size=(128, 128)).astype(np.float32)
    return {
        "a point": Prompt(points[:1], np.ones(1, np.int64)),
        "many points": Prompt(many, np.arange(20) % 2),
        "a prior": Prompt(points, np.array([1, 0]), logits=prior),
    }


@pytest.mark.parametrize("kind", [PromptableModel, OnnxPairModel])
@pytest.mark.parametrize("name", prompts())
def test_a_click_is_the_same_with_arrays_on_the_device(
    kind: type[PromptableModel], name: str, embedding: Embedding
) -> None:
    answers = []
    for options in (ON_HOST, ON_DEVICE):
        model = kind(STARTER, None, options)
        image = PreparedImage(SIZE, embedding, model.prepare(embedding, None))
        on_device = {type(array) for array in image.prepared.values()}
        assert (DeviceArray in on_device) == options.keep_on_device
        answers.append(decode_prompt(model, image, prompts()[name], True, Select.ALL, Timings(), raw=True))
    assert len(answers[0]) == len(answers[1]) == 3
    for host, device in zip(*answers, strict=True):
        assert np.array_equal(host.logits, device.logits)
        assert host.score == device.score


@pytest.mark.parametrize("kind", [PromptableModel, OnnxPairModel])
def test_arrays_on_the_device_are_not_moved_again_for_a_prior(
    kind: type[PromptableModel], embedding: Embedding
) -> None:
    model = kind(STARTER, None, ON_DEVICE)
    first = model.prepare(embedding, None)
    again = model.prepare(embedding, np.ones((128, 128), np.float32), first)
    name = {PromptableModel: "embedding", OnnxPairModel: "image_embeddings"}[kind]
    assert again[name] is first[name]
    without = model.prepare(embedding, np.ones((128, 128), np.float32))
    for key, array in again.items():
        assert np.array_equal(on_host(array), on_host(without[key]))


def on_host(array: object) -> np.ndarray:
    return array.numpy() if isinstance(array, DeviceArray) else np.asarray(array)


def test_arrays_on_the_device_count_against_the_prepared_cache(embedding: Embedding) -> None:
    model = PromptableModel(STARTER, None, ON_DEVICE)
    prepared = model.prepare(embedding, None)
    image = PreparedImage(SIZE, embedding, prepared)
    arrays = [on_host(array) for array in prepared.values()]
    assert image.nbytes == sum(a.nbytes for a in [*arrays, *embedding.values()]) > 1 << 20
    cache = PreparedCache(2 * image.nbytes)
    for name in "abc":
        cache.put(EmbeddingKey("t", name, "d"), image)
    assert (len(cache), cache.nbytes, cache.evicted) == (2, 2 * image.nbytes, 1)


def test_a_graph_reads_and_writes_host_and_device_arrays() -> None:
    graph = OnnxGraph(STARTER.path("prepare.onnx"), ON_DEVICE)
    random = np.random.default_rng(0)
    inputs = {
        "embedding": random.normal(size=(1, 32, 32, 128)).astype(np.float32).transpose(0, 3, 1, 2),
        "mask_input": np.zeros((1, 1, 128, 128), np.float32),
        "has_mask": np.zeros(1, np.float32),
        "unknown": np.zeros(1),
    }
    expected = graph.run(inputs)
    mixed = {**inputs, "embedding": graph.to_device(inputs["embedding"])}
    assert isinstance(mixed["embedding"], DeviceArray)
    on_device = graph.run_on_device(mixed)
    assert all(isinstance(array, DeviceArray) for array in on_device.values())
    assert on_device.keys() == expected.keys()
    for name, array in graph.run(mixed).items():
        assert np.array_equal(array, expected[name])
        assert np.array_equal(on_host(on_device[name]), expected[name])
    assert graph.run(mixed, ["v"]).keys() == {"v"}


@pytest.mark.parametrize("on_device", [False, True])
def test_out_of_memory_is_distinguished_from_other_failures(
    on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OnnxGraph(STARTER.path("prepare.onnx"), ON_DEVICE if on_device else ON_HOST)
    inputs = {
        "embedding": graph.to_device(np.zeros((1, 128, 32, 32), np.float32)),
        "mask_input": np.zeros((1, 1, 128, 128), np.float32),
        "has_mask": np.zeros(1, np.float32),
    }
    message = "CUDA failure 2: out of memory ; GPU=0"

    def fail(*arguments: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(graph._session, "run_with_iobinding" if on_device else "run", fail)
    with pytest.raises(OutOfMemory):
        graph.run(inputs)
    message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        graph.run(inputs)


def test_a_gpu_keeps_arrays_and_a_cpu_does_not() -> None:
    assert RuntimeOptions.for_device(Device.CUDA, 2) == RuntimeOptions(Device.CUDA, 2, keep_on_device=True)
    assert RuntimeOptions.for_device(Device.CPU, 2) == RuntimeOptions(Device.CPU, 2)
