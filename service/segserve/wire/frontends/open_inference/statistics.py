"""Statistics of the models, as Triton answers them: read from the metrics, which REST and gRPC share."""

from typing import Any

from segserve.metrics import FrontendMetrics
from segserve.wire.frontends.open_inference.model_tensors import VERSION

NS = 1_000_000_000


def describe_statistics(metrics: FrontendMetrics, model: str) -> dict[str, Any]:
    """Return the JSON of a model's statistics, which is the fields of gRPC's message too."""

    def duration(outcome: str, stage: str) -> dict[str, int]:
        seconds = metrics.read_inference_seconds(model, outcome, stage)
        return {"count": metrics.read_inferences(model, outcome), "ns": int(seconds * NS)}

    count = metrics.read_inferences(model, "success")
    return {
        "name": model,
        "version": VERSION,
        "last_inference": int(1000 * metrics.read_last_inference_s(model)),  # milliseconds
        "inference_count": count,
        "execution_count": count,
        "inference_stats": {
            "success": duration("success", "all"),
            "fail": duration("fail", "all"),
            "queue": {"count": count, "ns": 0},
            "compute_input": duration("success", "input"),
            "compute_infer": duration("success", "infer"),
            "compute_output": duration("success", "output"),
        },
    }
