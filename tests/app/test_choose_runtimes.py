"""Settings, what is installed, and the CPU decide what runs encoders, and in which precision."""

import pytest

from segserve.app import choose_runtimes
from segserve.app.choose_runtimes import choose_runtime
from segserve.app.roles import Role
from segserve.errors import BadInput, MissingDependency
from segserve.models.registry import RuntimeOptionsByGraph
from segserve.settings import Settings
from segserve.types import Device, Precision, Runtime


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A machine with OpenVINO and a CPU that computes in bf16, until a test says otherwise."""
    has: dict[str, object] = {"openvino": True, "bf16": "amx_bf16"}
    monkeypatch.setattr(choose_runtimes, "has_openvino", lambda: has["openvino"])
    monkeypatch.setattr(choose_runtimes, "find_bf16_instructions", lambda: has["bf16"])
    monkeypatch.delenv("SEGSERVE_RUNTIME", raising=False)
    return has


def choose(role: Role = Role.API, *, encodes: bool = True, **settings: object) -> RuntimeOptionsByGraph:
    return choose_runtimes.choose_runtimes(Settings.model_validate(settings), role, encodes=encodes)


def test_auto_takes_openvino_for_encoders_where_it_is_installed(machine: dict[str, object]) -> None:
    chosen = choose()
    assert chosen.encoder is not None
    assert chosen.decoder is not None
    assert chosen.encoder.runtime is Runtime.OPENVINO
    assert chosen.decoder.runtime is Runtime.ONNXRUNTIME
    assert chosen.whole_image is not None
    assert chosen.whole_image.runtime is Runtime.ONNXRUNTIME
    assert chosen.embedding_precision is None  # each model's own agreement decides
    machine["openvino"] = False
    chosen = choose()
    assert chosen.encoder is not None
    assert chosen.encoder.runtime is Runtime.ONNXRUNTIME
    assert chosen.embedding_precision is Precision.FP32


def test_a_job_worker_encodes_several_images_at_once(machine: dict[str, object]) -> None:
    encoder = choose(Role.WORKER, encode_threads=4).encoder
    assert encoder is not None
    assert (encoder.threads, encoder.concurrent_runs) == (1, 4)


def test_auto_is_fp32_where_another_process_encodes_or_this_cpu_has_no_bf16(
    machine: dict[str, object],
) -> None:
    assert choose(encodes=False).embedding_precision is Precision.FP32
    assert choose(Role.ENCODER).embedding_precision is Precision.FP32
    machine["bf16"] = None
    assert choose().embedding_precision is Precision.FP32


def test_bf16_holds_for_all_processes_that_are_told(machine: dict[str, object]) -> None:
    for role, encodes in ((Role.API, True), (Role.API, False), (Role.ENCODER, True), (Role.WORKER, False)):
        assert choose(role, encodes=encodes, precision="bf16").embedding_precision is Precision.BF16
    assert choose(precision="fp32").embedding_precision is Precision.FP32


def test_what_this_machine_cannot_do_is_refused_with_a_remedy(machine: dict[str, object]) -> None:
    machine["bf16"] = None
    with pytest.raises(BadInput) as refused:
        choose(precision="bf16")
    assert refused.value.field == "precision"
    assert refused.value.remedy
    assert choose(encodes=False, precision="bf16").embedding_precision is Precision.BF16
    with pytest.raises(BadInput):
        choose(precision="bf16", runtime="onnxruntime")
    machine["openvino"] = False
    with pytest.raises(MissingDependency) as missing:
        choose(runtime="openvino")
    assert "openvino" in missing.value.remedy
    with pytest.raises(BadInput):
        choose_runtime(Settings(device=Device.CUDA, runtime=Runtime.OPENVINO))
    assert choose_runtime(Settings(device=Device.CUDA)) is Runtime.ONNXRUNTIME
