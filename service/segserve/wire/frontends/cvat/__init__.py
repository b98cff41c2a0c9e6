"""The protocol by which CVAT calls its serverless functions, under /cvat, and at the root of SEGSERVE_CVAT_PORT: the
service is the Nuclio dashboard that CVAT looks for at a host and a port.

`functions.py` says which functions there are: of each model what it can do. `bodies.py` has the requests, `invoke.py`
answers them, `tracker.py` follows shapes, `shapes.py` writes masks and polygons as CVAT reads them, `routes.py` has the
routes. Agents of CVAT (cvat-cli) are another way, without this folder: `clients/cvat/func.py`.
"""
