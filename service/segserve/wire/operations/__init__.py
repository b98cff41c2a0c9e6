"""The operations of the API, shared by REST, gRPC and the command line: check a request, return a result.

One file an operation: `segment.py`, `automatic.py`, `semantic.py`, `instances.py` take a checked body of
`wire.schemas` and return results that `wire.results` writes. `jobs.py` submits jobs; `batch.py`, `propagation.py`
(videos and volumes), `automatic_volume.py` and `tracking.py` check the request of a kind of job. `batch_image.py` and
`job_runners.py` are how a worker does them. `models.py` finds and describes models.
"""
