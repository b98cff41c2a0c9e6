"""Before a process says that it is ready, every graph that it runs has run once."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segserve.app import EncodingService, Service
from segserve.encode.encode_request import EncodeRequest
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.graph import HostOrDeviceArrays
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.settings import Settings
from segserve.timing import Timings


class RemoteEncoder:
    """Stands in for encoder workers; is never called."""

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        raise NotImplementedError

    def is_reachable(self) -> bool:
        return True

    async def close(self) -> None:
        pass


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, redis_url="unix:///nowhere", encode_batch=2)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """For each graph that was opened, the first input's first axis of each of its runs."""
    recorded: dict[str, list[int]] = {}
    open_graph, run_graph = OnnxGraph.__init__, OnnxGraph.run

    def open_and_record(graph: OnnxGraph, path: Path, *arguments: Any) -> None:
        recorded[path.name] = []
        graph.file = path.name  # type: ignore[attr-defined]
        open_graph(graph, path, *arguments)

    def run_and_record(graph: OnnxGraph, inputs: HostOrDeviceArrays, *arguments: Any) -> dict[str, Any]:
        recorded[graph.file].append(len(np.asarray(inputs[graph.inputs[0]])))  # type: ignore[attr-defined]
        return run_graph(graph, inputs, *arguments)

    monkeypatch.setattr(OnnxGraph, "__init__", open_and_record)
    monkeypatch.setattr(OnnxGraph, "run", run_and_record)
    return recorded


STARTER = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)
DECODERS = {*PromptableModel.list_decoder_graphs(STARTER), "ais.onnx"}


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_the_collector_passes_over_what_is_loaded(tmp_path: Path) -> None:
    """A collection that visits all of it holds up every request for 0.1 s."""
    gc.unfreeze()
    asyncio.run(Service(settings(tmp_path)).warm_up.run())
    assert gc.get_freeze_count() > 100_000
    assert len(gc.get_objects()) < gc.get_freeze_count() / 10


def test_a_service_runs_encoder_and_decoders(tmp_path: Path, runs: dict[str, list[int]]) -> None:
    asyncio.run(Service(settings(tmp_path)).warm_up.run())
    assert runs.keys() == DECODERS | {"encoder.onnx"}
    assert all(runs.values())
    assert runs["encoder.onnx"] == [2, 1], "a full batch too"


def test_what_was_begun_early_is_waited_for_and_runs_once(tmp_path: Path, runs: dict[str, list[int]]) -> None:
    warm_up = Service(settings(tmp_path)).warm_up
    warm_up.begin()
    assert not warm_up.is_done, "the loop says so, once it has seen the end"
    asyncio.run(warm_up.run())
    assert warm_up.is_done
    assert runs["encoder.onnx"] == [2, 1]


def test_an_encoder_worker_runs_the_encoder_alone(tmp_path: Path, runs: dict[str, list[int]]) -> None:
    asyncio.run(EncodingService(settings(tmp_path)).warm_up.run())
    assert runs == {"encoder.onnx": [2, 1]}


def test_a_service_with_encoder_workers_runs_no_encoder(tmp_path: Path, runs: dict[str, list[int]]) -> None:
    asyncio.run(Service(settings(tmp_path), RemoteEncoder()).warm_up.run())
    assert runs.keys() == DECODERS
    assert all(runs.values())
