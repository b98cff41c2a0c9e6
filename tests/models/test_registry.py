"""Bundles on disk: found, verified when loaded, kept within the memory budget, removed."""

from pathlib import Path

import pytest
import yaml
from onnx import TensorProto, helper

from segserve.errors import BadInput, BrokenModel, ModelNotFound
from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name, write_manifest
from segserve.models.install import new_bundle, remove_bundle
from segserve.models.manifest import BundleRuntime, Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.onnx_pair_model import MODEL_CLASSES, EfficientSamModel, OnnxPairModel
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry, RuntimeOptionsByGraph, weight_bytes


def make(folder: Path, name: str, runtime: BundleRuntime = BundleRuntime.FAST) -> Bundle:
    """A bundle of graphs that do nothing; bundles of names of one length are of one size."""
    (folder / name).mkdir(parents=True)
    for file in ("encoder.onnx", *MODEL_CLASSES[runtime].DECODER_GRAPHS):
        (folder / name / file).write_bytes(graph(name))
    manifest = PromptableManifest(
        name=name,
        kind=ModelKind.SAM,
        runtime=runtime,
        architecture="test",
        preprocess=PreprocessEntry(input_size=256, mean=(0, 0, 0), std=(1, 1, 1), resize="pad"),
        dims=Dims(embedding=(64, 16, 16), low=64),
        files={},
    )
    return write_manifest(folder / name, manifest)


def graph(doc: str) -> bytes:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "nothing", [x], [y], doc_string=doc
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def registry(*folders: Path, budget: int = 1 << 30) -> ModelRegistry:
    return ModelRegistry(list(folders), RuntimeOptionsByGraph(RuntimeOptions(), RuntimeOptions()), budget)


def test_bundles_are_found_by_name_the_first_folder_first(tmp_path: Path) -> None:
    mine = make(tmp_path / "mine", "a")
    make(tmp_path / "built_in", "b")
    other = make(tmp_path / "built_in", "a", BundleRuntime.STOCK)
    found = registry(tmp_path / "mine", tmp_path / "built_in", tmp_path / "absent")
    assert found.names() == ["a", "b"]
    assert found.bundle("a").digest == mine.digest != other.digest
    assert found.bundles().keys() == {"a", "b"}
    for name in ("c", "../mine/a", ""):
        with pytest.raises(ModelNotFound, match="Known models: a, b"):
            found.bundle(name)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_that_is_not_the_manifests_is_refused_at_load(tmp_path: Path, damage: str) -> None:
    file = make(tmp_path, "a").path("encoder.onnx")
    if damage == "changed":
        file.write_bytes(graph("b"))
    else:
        file.unlink()
    with pytest.raises(BrokenModel, match="does not match its sha256"):
        registry(tmp_path).load("a", PromptableModel)


@pytest.mark.parametrize("text", ["", "name: [", "name: a", "{format: 2}"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    make(tmp_path, "a")
    (tmp_path / "a" / MANIFEST_FILE).write_text(text)
    with pytest.raises(BrokenModel, match="manifest of bundle 'a' cannot be read"):
        registry(tmp_path).load("a", PromptableModel)


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, "a")
    path = tmp_path / "a" / MANIFEST_FILE
    data = yaml.safe_load(path.read_text())
    data["files"] = {"../a/encoder.onnx": data["files"]["encoder.onnx"]}
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BrokenModel, match="has no file"):
        registry(tmp_path).load("a", PromptableModel)


def test_the_digest_stands_for_everything_in_the_bundle(tmp_path: Path) -> None:
    first = make(tmp_path / "1", "a")
    assert make(tmp_path / "2", "a").digest == first.digest
    (first.folder / "encoder.onnx").write_bytes(graph("z"))
    assert write_manifest(first.folder, first.manifest).digest != first.digest


def test_the_least_recently_used_goes_when_memory_runs_short(tmp_path: Path) -> None:
    budget = 3 * weight_bytes(make(tmp_path, "a"))
    for name in ("b", "c", "d"):
        make(tmp_path, name)
    counts: list[int] = []
    options = RuntimeOptions()
    held = ModelRegistry([tmp_path], RuntimeOptionsByGraph(options, options), budget, on_loaded=counts.append)
    for name in ("a", "b", "c"):
        held.load(name, PromptableModel)
    held.load("a", PromptableModel)
    held.load("d", PromptableModel)
    assert [name for name in "abcd" if held.get_loaded(name, PromptableModel)] == ["a", "c", "d"]
    assert counts == [1, 2, 3, 3]


def test_a_model_larger_than_the_budget_is_still_loaded_alone(tmp_path: Path) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b")
    held = registry(tmp_path, budget=1)
    held.load("a", PromptableModel)
    held.load("b", PromptableModel)
    assert held.get_loaded("a", PromptableModel) is None
    assert held.get_loaded("b", PromptableModel) is not None


def test_the_manifest_says_how_it_is_run(tmp_path: Path) -> None:
    for name, runtime in (
        ("f", BundleRuntime.FAST),
        ("s", BundleRuntime.STOCK),
        ("e", BundleRuntime.EFFICIENT_SAM),
    ):
        make(tmp_path, name, runtime)
    held = registry(tmp_path)
    assert [type(held.load(name, PromptableModel)) for name in "fse"] == [
        PromptableModel,
        OnnxPairModel,
        EfficientSamModel,
    ]


def test_a_bundle_in_the_making_is_not_seen(tmp_path: Path) -> None:
    with new_bundle(tmp_path, "a", replace=False) as folder:
        made = make(tmp_path / "elsewhere", "a")
        for file in made.folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        assert registry(tmp_path).names() == []
    assert registry(tmp_path).names() == ["a"]
    assert registry(tmp_path).load("a", PromptableModel).name == "a"


def test_a_bundle_whose_files_do_not_match_is_not_put_in_place(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel), new_bundle(tmp_path, "a", replace=False) as folder:  # noqa: PT012
        made = make(tmp_path / "elsewhere", "a")
        (folder / MANIFEST_FILE).write_bytes((made.folder / MANIFEST_FILE).read_bytes())
        (folder / "encoder.onnx").write_bytes(b"other")
    assert registry(tmp_path).names() == []


def test_removing(tmp_path: Path) -> None:
    make(tmp_path, "a")
    remove_bundle(tmp_path, "a")
    assert registry(tmp_path).names() == []
    with pytest.raises(ModelNotFound):
        remove_bundle(tmp_path, "a")
    with pytest.raises(BadInput):
        remove_bundle(tmp_path, "../a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "a b", "-a", "a" * 64, "ä"])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a model"):
        check_model_name(name)
