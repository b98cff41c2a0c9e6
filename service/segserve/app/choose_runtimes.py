"""Which runtime and which precision each sort of graph gets in a process: settings, what is installed, and the CPU."""

from dataclasses import replace
from functools import partial

from segserve.app.roles import Role, RoleOptions
from segserve.errors import BadInput, MissingDependency
from segserve.models.registry import RuntimeOptionsByGraph
from segserve.models.runtime.cpu_features import find_bf16_instructions
from segserve.models.runtime.openvino_graph import has_openvino
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.settings import Settings
from segserve.types import Device, Precision, Runtime

OPENVINO_EXTRA = "openvino"
COMPILED_FOLDER = "compiled"


def choose_runtimes(settings: Settings, role: Role, *, encodes: bool) -> RuntimeOptionsByGraph:
    """Return how this process runs each sort of graph.

    encodes: whether it runs encoders itself.

    Raises MissingDependency and BadInput for settings that this machine cannot follow.
    """
    options = RoleOptions.for_role(role, settings)
    for_threads = partial(RuntimeOptions.for_device, settings.device)
    encoder = replace(
        for_threads(options.threads_per_encode, fp16=True), concurrent_runs=options.concurrent_encodes
    )
    runtime = choose_runtime(settings)
    if runtime is Runtime.OPENVINO:
        encoder = replace(encoder, runtime=runtime, compiled_dir=settings.data_dir / COMPILED_FOLDER)
    # Of embeddings that other processes make, this one cannot know what auto would be there.
    alone = encodes and role is not Role.ENCODER
    return RuntimeOptionsByGraph(
        encoder=encoder if encodes else None,
        # A click's decoder is no faster in OpenVINO's fp32, and slower after a pause.
        decoder=for_threads(settings.decode_threads) if options.runs_decoders else None,
        # Not OpenVINO: it orders the proposals of a Mask R-CNN otherwise, and U-Nets were hardly faster in it.
        whole_image=for_threads(settings.encode_threads) if options.runs_decoders else None,
        embedding_precision=choose_precision(settings, runtime if encodes else None, alone=alone),
    )


def choose_runtime(settings: Settings) -> Runtime:
    """Return what runs encoders. Raises MissingDependency, BadInput."""
    installed = has_openvino()
    if settings.device is Device.CUDA:
        if settings.runtime is Runtime.OPENVINO:
            raise BadInput(
                "OpenVINO runs on the CPU, and SEGSERVE_DEVICE is cuda.",
                field="runtime",
                remedy="Unset SEGSERVE_RUNTIME.",
            )
        return Runtime.ONNXRUNTIME
    if settings.runtime is Runtime.OPENVINO and not installed:
        raise MissingDependency("OpenVINO", OPENVINO_EXTRA, "SEGSERVE_RUNTIME=openvino")
    return (
        Runtime.OPENVINO if installed and settings.runtime is not Runtime.ONNXRUNTIME else Runtime.ONNXRUNTIME
    )


def choose_precision(settings: Settings, runtime: Runtime | None, *, alone: bool) -> Precision | None:
    """Return the precision of all embeddings; None decides for each model, by how far its masks agree.

    runtime: of this process's encoders; None where it has none.
    alone: whether only this process's own encoders make the embeddings that it uses.

    Raises BadInput for bf16 where this process cannot compute in it.
    """
    if settings.precision is Precision.FP32:
        return Precision.FP32
    able = runtime is Runtime.OPENVINO and find_bf16_instructions() is not None
    if settings.precision is Precision.BF16:
        if runtime is not None and not able:
            raise BadInput(
                "SEGSERVE_PRECISION=bf16 needs OpenVINO, and a CPU with AVX512-BF16 or AMX.",
                field="precision",
                remedy="Set SEGSERVE_PRECISION=auto or fp32, or install the extra openvino on such a CPU.",
            )
        return Precision.BF16
    return None if alone and able else Precision.FP32
