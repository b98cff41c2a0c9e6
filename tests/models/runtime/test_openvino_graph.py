"""OpenVINO runs the graphs that ONNX Runtime runs, with the same interface and the same answers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from segserve.errors import BrokenModel
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.promptable_model import FEATURE_NAMES
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.open_graph import open_graph
from segserve.models.runtime.openvino_graph import OpenVinoGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device, Runtime
from tests.rounding import ENCODER_ERROR

pytest.importorskip("openvino")

STARTER = Bundle(BUILT_IN_MODELS / "starter")
OPENVINO = RuntimeOptions(runtime=Runtime.OPENVINO)


@pytest.fixture(scope="module")
def encoder() -> OpenVinoGraph:
    graph = open_graph(STARTER.path("encoder.onnx"), OPENVINO)
    assert isinstance(graph, OpenVinoGraph)
    return graph


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, 512, 512)).astype(np.float32)


@pytest.mark.parametrize("file", ["encoder.onnx", "prepare.onnx", "fast_decoder.onnx", "ais.onnx"])
def test_the_interface_is_that_of_the_file(file: str) -> None:
    ours, expected = (open_graph(STARTER.path(file), o) for o in (OPENVINO, RuntimeOptions()))
    assert ours.inputs == expected.inputs
    assert ours.outputs == expected.outputs
    assert ours.integers == expected.integers
    assert ours.is_batched == expected.is_batched


def test_embeddings_are_those_of_onnx_runtime(encoder: OpenVinoGraph) -> None:
    expected = OnnxGraph(STARTER.path("encoder.onnx"), RuntimeOptions()).run({"image": picture(0)})
    answer = encoder.run({"image": picture(0), "unknown": np.zeros(1)})
    for name, array in expected.items():
        assert np.abs(answer[name] - array).max() <= 2 * ENCODER_ERROR * array.std()


def test_runs_at_the_same_time_do_not_disturb_each_other(encoder: OpenVinoGraph) -> None:
    expected = [encoder.run({"image": picture(seed)})["embedding"] for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda i: encoder.run({"image": picture(i % 3)})["embedding"], range(9)))
    for i, answer in enumerate(answers):
        assert np.array_equal(answer, expected[i % 3])


def test_an_answer_stays_as_it_is_when_the_graph_runs_again(encoder: OpenVinoGraph) -> None:
    first = encoder.run({"image": picture(0)})["embedding"]
    kept = first.copy()
    encoder.run({"image": picture(1)})
    assert np.array_equal(first, kept)


def test_an_output_that_is_handed_on_has_the_name_of_the_file(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Relu", ["image"], ["a_hidden"]),
            onnx.helper.make_node("Identity", ["a_hidden"], ["named"]),
        ],
        "two names",
        [value("image", onnx.TensorProto.FLOAT, [1, 4])],
        [value("named", onnx.TensorProto.FLOAT, [1, 4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    opened = open_graph(tmp_path / "model.onnx", OPENVINO)
    assert opened.outputs == ["named"]
    assert opened.run({"image": np.ones((1, 4), np.float32)}).keys() == {"named"}


def test_named_outputs_alone_are_returned() -> None:
    graph = open_graph(STARTER.path("prepare.onnx"), OPENVINO)
    inputs = {
        "embedding": np.zeros((1, 128, 32, 32), np.float32),
        "mask_input": np.zeros((1, 1, 128, 128), np.float32),
        "has_mask": np.zeros(1, np.float32),
    }
    assert graph.run(inputs, ["v"]).keys() == {"v"}


def test_arrays_that_are_not_contiguous_are_read_as_they_are_meant(encoder: OpenVinoGraph) -> None:
    turned = np.ascontiguousarray(picture(2).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    answer = encoder.run({"image": turned})["embedding"]
    assert np.array_equal(answer, encoder.run({"image": picture(2)})["embedding"])


def test_compiled_graphs_are_kept_where_the_options_say(tmp_path: Path) -> None:
    options = RuntimeOptions(runtime=Runtime.OPENVINO, compiled_dir=tmp_path / "compiled")
    first = open_graph(STARTER.path("ais.onnx"), options)
    assert list((tmp_path / "compiled").iterdir())
    again = open_graph(STARTER.path("ais.onnx"), options)
    random, dims = np.random.default_rng(3), STARTER.expect(PromptableManifest).dims
    shapes = zip(FEATURE_NAMES, (dims.embedding, *dims.high_res), strict=False)
    features = {name: random.normal(size=(1, *shape)).astype(np.float32) for name, shape in shapes}
    maps = [graph.run(features)["maps"] for graph in (first, again)]
    assert np.array_equal(*maps)


def test_a_file_that_is_no_graph_is_a_broken_model(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BrokenModel) as caught:
        open_graph(tmp_path / "encoder.onnx", OPENVINO)
    assert "encoder.onnx" in str(caught.value)
    assert str(tmp_path) not in f"{caught.value} {caught.value.remedy}"


def test_cuda_is_left_to_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        "segserve.models.runtime.open_graph.OnnxGraph", lambda path, options: opened.append(options.device)
    )
    open_graph(STARTER.path("ais.onnx"), RuntimeOptions(device=Device.CUDA, runtime=Runtime.OPENVINO))
    assert opened == [Device.CUDA]
