"""The templates are what the reference libraries export today, and filled they compute what torch's export computes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from segserve.models.export.write_templates import build_network, make_templates, randomise, write_graphs
from segserve.models.templates.architectures import ARCHITECTURES
from segserve.models.templates.graph_template import (
    SUFFIX,
    TEMPLATES_FOLDER,
    compress_template,
    read_template,
    save_graph,
)

# Where rounding differs: largest error over the standard deviation.
TOLERANCE = 2e-5
sizes = pytest.mark.parametrize(
    "name",
    [
        "vit_t",
        *(pytest.param(name, marks=pytest.mark.large) for name in ARCHITECTURES if name != "vit_t"),
    ],
)


@sizes
def test_the_templates_are_current(name: str) -> None:
    """If this fails, a library or an exporter has changed: look at what changed, then `make templates`."""
    architecture = ARCHITECTURES[name]
    for graph, template in make_templates(build_network(name), name, seed=5):
        path = TEMPLATES_FOLDER / f"{architecture.templates[graph]}{SUFFIX}"
        assert path.read_bytes() == compress_template(template), graph


def random_inputs(session: Any) -> dict[str, Any]:
    """Return inputs of the shapes that a graph names; a free axis is 2, which is a click and its padding point."""
    random = np.random.default_rng(0)
    inputs = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in value.shape]
        inputs[value.name] = random.random(shape).astype(np.float32)
        if value.name == "image":
            inputs[value.name] = random.normal(size=[1, *shape[1:]]).astype(np.float32)
        elif value.name == "point_labels":
            inputs[value.name] = np.array([[1, -1]], np.float32)
        elif value.name == "channels":
            inputs[value.name] = np.array([0, 2])
        elif value.name == "orig_im_size":
            inputs[value.name] = np.array([300, 400], np.float32)
    return inputs


def graph_pairs(name: str, folder: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield each graph as the template's and as torch's export with the same weights."""
    network = build_network(name)
    randomise(network, 3)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    from segserve.models.export.batch_norm import fold_batch_norms

    write_graphs(fold_batch_norms(network), folder, name)
    for graph, template in ARCHITECTURES[name].templates.items():
        save_graph(read_template(template).fill(state), folder / "filled.onnx")
        paths = (folder / "filled.onnx", folder / f"{graph}.onnx")
        ours, theirs = (
            onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in paths
        )
        yield graph, ours, theirs


@sizes
def test_a_filled_template_computes_what_torchs_export_computes(name: str, tmp_path: Path) -> None:
    for graph, ours, theirs in graph_pairs(name, tmp_path):
        assert [value.name for value in ours.get_inputs()] == [value.name for value in theirs.get_inputs()]
        assert [value.name for value in ours.get_outputs()] == [value.name for value in theirs.get_outputs()]
        inputs = random_inputs(theirs)
        for actual, expected in zip(ours.run(None, inputs), theirs.run(None, inputs), strict=True):
            assert np.abs(actual - expected).max() < TOLERANCE * expected.std(), graph


def test_templates_hold_no_weights_and_are_small() -> None:
    files = [path for path in TEMPLATES_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    for architecture in ARCHITECTURES.values():
        for name in architecture.templates.values():
            template = read_template(name)
            stored = [t for t in template.model.graph.initializer if t.name not in template.shapes]
            assert all(len(t.raw_data) < 600_000 for t in stored), "indices, not weights"
            assert template.shapes
