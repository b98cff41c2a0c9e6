"""REST and gRPC in front of the service: HTTP limits, request checks, answers in many formats.

A request passes `http` (limits, errors), then its route in `rest` or its method in `grpc`. Both check it with
`schemas`, call `operations`, and write the answer with `results`. The page to label pictures is in `clients/web`. A new
operation is one file in each of these folders, found by its name. `server.py` runs REST and gRPC in one process;
`tls_files.py` has their certificates.
"""
