"""The registry finds bundles on disk, verifies them at load, and keeps them within the memory budget."""

from pathlib import Path

import pytest
import yaml
from onnx import TensorProto, helper

from segserve.errors import BadInput, BrokenModel, ModelNotFound
from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name, write_manifest
from segserve.models.install import new_bundle, remove_bundle
from segserve.models.manifest import BundleRuntime, Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.onnx_pair_model import MODEL_CLASSES, EfficientSamModel, OnnxPairModel
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry, RuntimeOptionsByGraph, weight_bytes
from segserve.models.runtime.runtime_options import RuntimeOptions


def write_test_bundle(folder: Path, name: str, runtime: BundleRuntime = BundleRuntime.FAST) -> Bundle:
    """Write a bundle of graphs that do nothing. Bundles whose names have the same length have the same size."""
    (folder / name).mkdir(parents=True)
    for file in ("encoder.onnx", *MODEL_CLASSES[runtime].DECODER_GRAPHS):
        (folder / name / file).write_bytes(identity_graph(name))
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


def identity_graph(doc: str) -> bytes:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "nothing", [x], [y], doc_string=doc
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def open_registry(*folders: Path, budget: int = 1 << 30) -> ModelRegistry:
    return ModelRegistry(list(folders), RuntimeOptionsByGraph(RuntimeOptions(), RuntimeOptions()), budget)


def test_bundles_are_found_by_name_the_first_folder_first(tmp_path: Path) -> None:
    mine = write_test_bundle(tmp_path / "mine", "a")
    write_test_bundle(tmp_path / "built_in", "b")
    other = write_test_bundle(tmp_path / "built_in", "a", BundleRuntime.STOCK)
    models = open_registry(tmp_path / "mine", tmp_path / "built_in", tmp_path / "absent")
    assert models.names() == ["a", "b"]
    assert models.bundle("a").digest == mine.digest != other.digest
    assert models.bundles().keys() == {"a", "b"}
    for name in ("c", "../mine/a", ""):
        with pytest.raises(ModelNotFound, match="Known models: a, b"):
            models.bundle(name)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_with_a_wrong_digest_is_refused_at_load(tmp_path: Path, damage: str) -> None:
    file = write_test_bundle(tmp_path, "a").path("encoder.onnx")
    if damage == "changed":
        file.write_bytes(identity_graph("b"))
    else:
        file.unlink()
    with pytest.raises(BrokenModel, match="does not match its sha256"):
        open_registry(tmp_path).load("a", PromptableModel)


@pytest.mark.parametrize("text", ["", "name: [", "name: a", "{format: 2}"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    write_test_bundle(tmp_path, "a")
    (tmp_path / "a" / MANIFEST_FILE).write_text(text)
    with pytest.raises(BrokenModel, match="manifest of bundle 'a' cannot be read"):
        open_registry(tmp_path).load("a", PromptableModel)


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    write_test_bundle(tmp_path, "a")
    path = tmp_path / "a" / MANIFEST_FILE
    data = yaml.safe_load(path.read_text())
    data["files"] = {"../a/encoder.onnx": data["files"]["encoder.onnx"]}
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BrokenModel, match="has no file"):
        open_registry(tmp_path).load("a", PromptableModel)


def test_the_digest_changes_with_any_file_of_the_bundle(tmp_path: Path) -> None:
    first = write_test_bundle(tmp_path / "1", "a")
    assert write_test_bundle(tmp_path / "2", "a").digest == first.digest
    (first.folder / "encoder.onnx").write_bytes(identity_graph("z"))
    assert write_manifest(first.folder, first.manifest).digest != first.digest


def test_the_least_recently_used_model_is_evicted_when_memory_runs_short(tmp_path: Path) -> None:
    budget = 3 * weight_bytes(write_test_bundle(tmp_path, "a"))
    for name in ("b", "c", "d"):
        write_test_bundle(tmp_path, name)
    counts: list[int] = []
    options = RuntimeOptions()
    loaded = ModelRegistry(
        [tmp_path], RuntimeOptionsByGraph(options, options), budget, on_loaded=counts.append
    )
    for name in ("a", "b", "c"):
        loaded.load(name, PromptableModel)
    loaded.load("a", PromptableModel)
    loaded.load("d", PromptableModel)
    assert [name for name in "abcd" if loaded.get_loaded(name, PromptableModel)] == ["a", "c", "d"]
    assert counts == [1, 2, 3, 3]


def test_a_model_larger_than_the_budget_is_still_loaded_alone(tmp_path: Path) -> None:
    write_test_bundle(tmp_path, "a")
    write_test_bundle(tmp_path, "b")
    loaded = open_registry(tmp_path, budget=1)
    loaded.load("a", PromptableModel)
    loaded.load("b", PromptableModel)
    assert loaded.get_loaded("a", PromptableModel) is None
    assert loaded.get_loaded("b", PromptableModel) is not None


def test_the_manifests_runtime_selects_the_class(tmp_path: Path) -> None:
    for name, runtime in (
        ("f", BundleRuntime.FAST),
        ("s", BundleRuntime.STOCK),
        ("e", BundleRuntime.EFFICIENT_SAM),
    ):
        write_test_bundle(tmp_path, name, runtime)
    loaded = open_registry(tmp_path)
    assert [type(loaded.load(name, PromptableModel)) for name in "fse"] == [
        PromptableModel,
        OnnxPairModel,
        EfficientSamModel,
    ]


def test_a_bundle_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    with new_bundle(tmp_path, "a", replace=False) as folder:
        written = write_test_bundle(tmp_path / "elsewhere", "a")
        for file in written.folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        assert open_registry(tmp_path).names() == []
    assert open_registry(tmp_path).names() == ["a"]
    assert open_registry(tmp_path).load("a", PromptableModel).name == "a"


def test_a_bundle_with_wrong_digests_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel), new_bundle(tmp_path, "a", replace=False) as folder:  # noqa: PT012
        written = write_test_bundle(tmp_path / "elsewhere", "a")
        (folder / MANIFEST_FILE).write_bytes((written.folder / MANIFEST_FILE).read_bytes())
        (folder / "encoder.onnx").write_bytes(b"other")
    assert open_registry(tmp_path).names() == []


def test_a_removed_bundle_is_gone(tmp_path: Path) -> None:
    write_test_bundle(tmp_path, "a")
    remove_bundle(tmp_path, "a")
    assert open_registry(tmp_path).names() == []
    with pytest.raises(ModelNotFound):
        remove_bundle(tmp_path, "a")
    with pytest.raises(BadInput):
        remove_bundle(tmp_path, "../a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "a b", "-a", "a" * 64, "ä"])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a model"):
        check_model_name(name)
