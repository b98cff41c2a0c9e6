"""gRPC: messages are converted to the bodies that REST takes, checked alike, and the answers converted back.

`segmentation_service.py`, `file_service.py` and `job_service.py` are the services of proto/segserve/v1 for clients.
`encoder_service.py` is what encoder workers answer, `encoder_client.py` how the API calls them. `convert/` has a file
for each operation. `errors.py` maps the error tree to status codes, `interceptor.py` limits, logs, counts and times
every call, `connections.py` tells who calls. `message_structure.py` counts the fields of a message before it is built,
`server.py` starts it all, with health checks and reflection.
"""
