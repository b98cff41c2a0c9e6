"""Pairs of every interface in use become models that answer as their library; other files are refused with a reason."""

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.sam import SamEncoder, SamStockDecoder
from segserve.models.export.sam2 import Sam2StockDecoder
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers import ort_file
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.ort_file import DamagedOrtFile, parse_ort_file
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from tests.models.importers.semantic_imports import invoke_import, is_empty
from tests.models.networks import GRID, IMAGE, LibraryDecoder, sam2_decoder, small_sam
from tests.models.test_onnx_pair_model import Features, RectLabelDecoder, load_model
from tests.rounding import CLICK_ERROR, ENCODER_ERROR

LOW = 4 * GRID
DYNAMIC = {"point_coords": {1: "n"}, "point_labels": {1: "n"}}
PROMPT = {
    "point_coords": torch.rand(1, 2, 2),
    "point_labels": torch.tensor([[1.0, 0.0]]),
    "mask_input": torch.zeros(1, 1, LOW, LOW),
    "has_mask_input": torch.zeros(1),
}
FEATURES = {
    "embedding": torch.randn(1, 64, GRID, GRID),
    "high_res_0": torch.randn(1, 8, 4 * GRID, 4 * GRID),
    "high_res_1": torch.randn(1, 16, 2 * GRID, 2 * GRID),
}


def import_pair(
    folder: Path, *, encoder: str = "e.onnx", decoder: str = "d.onnx", name: str = "pair"
) -> Bundle:
    return import_checkpoint("onnx_pair", folder / encoder, name, folder / "m", decoder=folder / decoder)


class InOtherOrder(torch.nn.Module):
    """The features in the order of samexporter and of the browsers' exports: the finest first."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Any) -> Any:
        embedding, fine, middle = self.encoder(image)
        return fine, middle, embedding


class SamexporterDecoder(RectLabelDecoder):
    """Masks of the three candidates at low resolution, and no size of the image."""

    def forward(
        self, embedding: Any, fine: Any, middle: Any, coords: Any, labels: Any, prior: Any, has: Any
    ) -> Any:
        size = torch.tensor([LOW, LOW])
        masks, scores, _ = super().forward(embedding, fine, middle, coords, labels, prior, has, size)
        return masks[:, 1:].clamp(-32, 32), scores[:, 1:]


class StockDecoder(torch.nn.Module):
    """SAM 2's decoder that reads the padding point."""

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        super().__init__()
        self.stock = Sam2StockDecoder.__new__(Sam2StockDecoder)
        torch.nn.Module.__init__(self.stock)
        self.stock.prompt_encoder, self.stock.mask_decoder = prompt_encoder, mask_decoder

    def forward(self, *inputs: Any) -> Any:
        return self.stock(*inputs)


def write_sam2_pair(folder: Path, names: tuple[str, str, str], decoder: str) -> tuple[Any, Any]:
    """Write e.onnx and d.onnx. names: of the embedding and of the features, the finest first."""
    torch.manual_seed(0)
    encoder, parts = Features().eval(), sam2_decoder(64, GRID, 4, 128)
    image = {"image": torch.zeros(1, 3, IMAGE, IMAGE)}
    export_onnx(InOtherOrder(encoder), folder / "e.onnx", image, (*names[1:], names[0]))
    features = dict(zip(names, FEATURES.values(), strict=True))
    size = {"orig_im_size": torch.tensor([480, 640], dtype=torch.int32)}
    if decoder == "samexporter":
        network, inputs, outputs = (
            SamexporterDecoder(*parts),
            {**features, **PROMPT},
            ("masks", "iou_predictions"),
        )
    else:
        network = RectLabelDecoder(*parts) if decoder == "rectlabel" else StockDecoder(*parts)
        inputs, outputs = {**features, **PROMPT, **size}, ("masks", "iou_predictions", "low_res_masks")
    export_onnx(network, folder / "d.onnx", inputs, outputs, DYNAMIC)
    return encoder, parts


SAM2_INTERFACES = {
    "samexporter and browsers": (("image_embed", "high_res_feats_0", "high_res_feats_1"), "samexporter"),
    "rectlabel and osam": (("image_embeddings", "high_res_features1", "high_res_features2"), "rectlabel"),
    "the padding point is read": (("image_embed", "high_res_feats_0", "high_res_feats_1"), "stock"),
    "other names": (("coarse", "fine", "middle"), "samexporter"),
}


@pytest.mark.parametrize("interface", SAM2_INTERFACES)
def test_a_sam2_pair_of_each_interface_answers_as_the_library(tmp_path: Path, interface: str) -> None:
    names, decoder = SAM2_INTERFACES[interface]
    encoder, parts = write_sam2_pair(tmp_path, names, decoder)
    import_pair(tmp_path)
    model = load_model(tmp_path / "m", "pair")
    assert model.manifest.architecture == "sam2_onnx"
    assert model.manifest.dims.high_res == ((8, 64, 64), (16, 32, 32))
    image, prior = torch.randn(1, 3, IMAGE, IMAGE) * 3, torch.randn(1, 1, LOW, LOW)
    with torch.no_grad():
        features = dict(zip(FEATURES, encoder(image), strict=True))
        points = torch.tensor([[[30.0, 40.0], [200.0, 140.0]]]), torch.tensor([[1, 0]])
        expected, expected_scores = LibraryDecoder().decode(parts, features, points, None, prior)
    ours = model.encode(image.numpy())
    for name, value in features.items():
        assert error_over_std(ours[name], value[0].numpy()) < ENCODER_ERROR
    coords = np.array([[30, 40], [200, 140], [0, 0]], np.float32)
    prepared = model.prepare(ours, prior[0, 0].numpy())
    logits, scores = model.decode(prepared, coords, np.array([1, 0, -1], np.float32), [1, 2, 3])
    assert error_over_std(logits, expected[1:].clamp(-32, 32).numpy()) < CLICK_ERROR
    difference = np.abs(scores[1:] - expected_scores[1:].numpy()).max()
    assert difference < CLICK_ERROR * float(expected_scores.abs().max())


class PictureEncoder(torch.nn.Module):
    """samexporter's encoder of SAM 1: it normalises and pads a picture itself."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, picture: Any) -> Any:
        planes = ((picture - self.sam.pixel_mean.reshape(3)) / self.sam.pixel_std.reshape(3)).permute(2, 0, 1)
        height, width = planes.shape[-2:]
        padded = torch.nn.functional.pad(planes, (0, IMAGE - width, 0, IMAGE - height))
        return self.sam.image_encoder(padded[None])


def write_sam_pair(folder: Path, sam: Any, *, pictures: bool) -> None:
    if pictures:
        free = {"input_image": {0: "height", 1: "width"}}
        image = {"input_image": torch.rand(150, IMAGE, 3) * 255}
        export_onnx(PictureEncoder(sam), folder / "e.onnx", image, ("image_embeddings",), free)
    else:
        image = {"x": torch.zeros(1, 3, IMAGE, IMAGE)}
        export_onnx(SamEncoder(sam.image_encoder), folder / "e.onnx", image, ("output",))
    inputs = {
        "image_embeddings": FEATURES["embedding"],
        **PROMPT,
        "orig_im_size": torch.tensor([480.0, 640.0]),
    }
    outputs = ("iou_predictions", "masks", "low_res_masks")

    class Reordered(SamStockDecoder):
        def forward(self, *inputs: Any) -> Any:
            masks, scores, low_res = super().forward(*inputs)
            return scores, masks, low_res

    export_onnx(Reordered(sam, return_single_mask=False), folder / "d.onnx", inputs, outputs, DYNAMIC)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_sam_pair_answers_as_the_library(tmp_path: Path, pictures: bool) -> None:
    sam = small_sam()
    write_sam_pair(tmp_path, sam, pictures=pictures)
    import_pair(tmp_path)
    model = load_model(tmp_path / "m", "pair")
    assert (model.manifest.preprocess.input_size, model.manifest.preprocess.resize) == (IMAGE, "pad")
    picture = torch.zeros(1, 3, IMAGE, IMAGE)
    picture[:, :, :150] = torch.randn(1, 3, 150, IMAGE)  # below it is padding
    with torch.no_grad():
        expected = sam.image_encoder(picture)
        points = torch.tensor([[[30.0, 40.0]]]), torch.tensor([[1]])
        parts = sam.prompt_encoder, sam.mask_decoder
        masks, scores = LibraryDecoder().decode(parts, {"embedding": expected}, points, None, None)
    embedding = model.encode(picture.numpy())
    assert error_over_std(embedding["embedding"], expected[0].numpy()) < ENCODER_ERROR
    point = np.array([[30, 40], [0, 0]], np.float32), np.array([1, -1], np.float32)
    logits, our_scores = model.decode(model.prepare(embedding, None), *point, [0, 1, 2, 3])
    assert error_over_std(logits, masks.numpy()) < CLICK_ERROR
    assert np.abs(our_scores - scores.numpy()).max() < CLICK_ERROR * float(scores.abs().max())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SAM 2 pair, its encoder as .ort too."""
    folder = tmp_path_factory.mktemp("pair")
    write_sam2_pair(folder, *SAM2_INTERFACES["samexporter and browsers"])
    for name in ("e", "d"):
        write_ort_file(folder / f"{name}.onnx", folder / f"{name}.ort")
    return folder


def write_ort_file(source: Path, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def test_ort_files_are_read_as_onnx_files_are(pair: Path) -> None:
    import_pair(pair, name="onnx")
    import_pair(pair, name="ort", encoder="e.ort", decoder="d.ort")
    first, second = load_model(pair / "m", "onnx"), load_model(pair / "m", "ort")
    assert onnx.load(second.bundle.path("encoder.onnx")).graph.node
    image = np.random.default_rng(0).normal(size=(1, 3, IMAGE, IMAGE)).astype(np.float32)
    embedding = first.encode(image)
    for name, value in second.encode(image).items():
        assert error_over_std(value, embedding[name]) < ENCODER_ERROR
    point = np.array([[30, 40], [0, 0]], np.float32), np.array([1, -1], np.float32)
    answers = [m.decode(m.prepare(embedding, None), *point, [1, 2, 3])[0] for m in (first, second)]
    assert error_over_std(*answers) < CLICK_ERROR


def test_an_ort_file_with_branches_is_read(tmp_path: Path) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(operation, ["x", "y"], ["z"])],
            name,
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
        )
        for name, operation in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["is_positive"]),
        helper.make_node("If", ["is_positive"], ["out"], **branches),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "out")]
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "g.onnx")
    write_ort_file(tmp_path / "g.onnx", tmp_path / "g.ort")
    onnx.save(parse_ort_file((tmp_path / "g.ort").read_bytes()), tmp_path / "back.onnx")
    read = OnnxGraph(tmp_path / "back.onnx", RuntimeOptions())
    for sign in (1, -1):
        x, y = np.full(2, sign, np.float32), np.array([1, 2], np.float32)
        assert np.array_equal(read.run({"x": x, "y": y})["out"], x + sign * y)


def test_damaged_ort_files_are_refused_or_read_and_nothing_else(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, generator = (pair / "d.ort").read_bytes(), random.Random(0)
    head = len(whole) // 50  # where most offsets are
    for _ in range(40):
        data = bytearray(whole[: generator.choice([len(whole), generator.randrange(len(whole))])])
        for _ in range(generator.randrange(1, 20)):
            if data:
                data[generator.randrange(min(len(data), generator.choice([head, len(whole)])))] = (
                    generator.randrange(256)
                )
        try:
            parse_ort_file(bytes(data))
        except DamagedOrtFile:
            continue
    # Offsets may name the same bytes many times: what is read is bounded.
    monkeypatch.setattr(ort_file, "MAX_ITEMS", 500)
    with pytest.raises(DamagedOrtFile, match="more is in it"):
        parse_ort_file(whole)


def test_an_offset_beyond_the_file_is_refused() -> None:
    data = struct.pack("<I4s", 1 << 31, b"ORTM") + bytes(64)
    with pytest.raises(DamagedOrtFile, match="outside"):
        parse_ort_file(data)


def test_the_command_imports_a_pair(pair: Path, tmp_path: Path) -> None:
    done = invoke_import(tmp_path, "onnx_pair", str(pair / "e.ort"), "--decoder", str(pair / "d.onnx"))
    assert done.exit_code == 0, done.output
    assert "sam2_onnx" in done.output


def write_with_external_weights(source: Path, target: Path, location: str) -> None:
    model = onnx.load(source)
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    target.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_weights_in_other_files_are_refused(pair: Path, tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    for part in ("e", "d"):
        (tmp_path / f"{part}.onnx").write_bytes((pair / f"{part}.onnx").read_bytes())
    write_with_external_weights(pair / "d.onnx", tmp_path / "d.onnx", location)
    with pytest.raises(BadInput, match=r"d\.onnx has weights in another file") as caught:
        import_pair(tmp_path)
    assert caught.value.field == "decoder"
    assert is_empty(tmp_path / "m")


def test_weights_of_a_graphs_own_functions_may_not_be_in_other_files(pair: Path, tmp_path: Path) -> None:
    model = onnx.load(pair / "e.onnx")
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Read", [], ["y"], [constant], opsets))
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match=r"e\.onnx has weights in another file"):
        import_checkpoint("onnx_pair", tmp_path / "e.onnx", "pair", tmp_path / "m", decoder=pair / "d.onnx")


def write_graph(path: Path, inputs: dict[str, tuple[int, list[int]]], outputs: dict[str, list[int]]) -> None:
    """Write a graph of these inputs and outputs that passes its first input on."""
    node = [helper.make_node("Identity", [next(iter(inputs))], [name]) for name in outputs]
    graph = helper.make_graph(
        node,
        "g",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    onnx.save(helper.make_model(graph), path)


def test_what_is_no_pair_is_refused_with_what_was_found(pair: Path, tmp_path: Path) -> None:
    def fail(
        message: str, encoder: Path = pair / "e.onnx", decoder: Path | None = pair / "d.onnx", **how: Any
    ) -> None:
        with pytest.raises(BadInput, match=message) as caught:
            import_checkpoint("onnx_pair", encoder, "pair", tmp_path / "m", decoder=decoder, **how)
        assert caught.value.remedy
        assert is_empty(tmp_path / "m")

    FLOAT = TensorProto.FLOAT
    write_graph(tmp_path / "unknown.onnx", {"pixel_values": (FLOAT, [1, 3, 8, 8])}, {"a": [1, 3, 8, 8]})
    write_graph(tmp_path / "volume.onnx", {"x": (FLOAT, [1, 1, 8, 8, 8])}, {"a": [1], "b": [1], "c": [1]})
    write_graph(
        tmp_path / "half.onnx", {"x": (TensorProto.FLOAT16, [1, 3, 8, 8])}, {"a": [1], "b": [1], "c": [1]}
    )
    write_graph(tmp_path / "wide.onnx", {"x": (FLOAT, [1, 3, 8, 16])}, {"a": [1], "b": [1], "c": [1]})
    write_graph(tmp_path / "small.onnx", {"x": (FLOAT, [1, 3, 64, 64])}, {n: [1, 3, 64, 64] for n in "abc"})
    write_graph(tmp_path / "huge.onnx", {"x": (FLOAT, [1, 3, 1 << 40, 1 << 40])}, {n: [1] for n in "abc"})
    masks = onnx.load(pair / "d.onnx")
    [prior] = [value for value in masks.graph.input if value.name == "mask_input"]
    for dim in prior.type.tensor_type.shape.dim[2:]:
        dim.dim_value = 1 << 30
    onnx.save(masks, tmp_path / "masks.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "cut.ort").write_bytes((pair / "e.ort").read_bytes()[:5000])
    fail("two files", decoder=None)
    fail("There is no file", decoder=tmp_path / "absent.onnx")
    fail("first file is a decoder", encoder=pair / "d.onnx", decoder=pair / "e.onnx")
    fail(r"not known. It reads pixel_values \[1, 3, 8, 8\] and returns a", decoder=tmp_path / "unknown.onnx")
    fail("the encoder returns a", encoder=tmp_path / "unknown.onnx")
    fail(r"encoder reads x \[1, 1, 8, 8, 8\]", encoder=tmp_path / "volume.onnx")
    fail("input x is float16", encoder=tmp_path / "half.onnx")
    fail("images of 8 x 16", encoder=tmp_path / "wide.onnx")
    fail("images of 1099511627776 pixels", encoder=tmp_path / "huge.onnx")
    fail("masks of 1073741824", decoder=tmp_path / "masks.onnx")
    fail("fit together", encoder=tmp_path / "small.onnx")
    fail("text.onnx is not an ONNX graph", encoder=tmp_path / "text.onnx")
    fail("cannot be read as an .ort file", encoder=tmp_path / "cut.ort")
    fail("kind sam2_onnx, not sam_onnx", variant="sam_onnx")
    fail("no kind of pairs 'sam3'", variant="sam3")
    fail("no use for keep_weights", keep_weights=True)
