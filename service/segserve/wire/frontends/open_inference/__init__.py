"""The Open Inference Protocol, version 2, under /v2 and over gRPC: what KServe, Triton and their clients speak.

`routes.py` and `grpc_service.py` are REST and gRPC. Both make an `InferRequest` (`infer.py`) of tensors (`tensors.py`)
and answer its tensors. `model_tensors.py` says which tensors the models of each kind take and answer, `http_tensors.py`
writes tensors into JSON and behind it (the binary data extension), `statistics.py` counts.
"""
