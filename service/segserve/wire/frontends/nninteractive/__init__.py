"""The protocol of nninteractive-server, under /nninteractive: objects of a volume, by points, boxes, scribbles, lassos.

A client claims a lease, sends a volume, and gets the changed part of the object's mask after each interaction.
`lease.py` is what a lease holds, `interactions.py` makes prompts on slices of what the user draws, `predict.py` has a
job follow the object through the slices, `volume_mask.py` compares masks of volumes. `array_file.py` receives packed
arrays, which a sandboxed process unpacks, and `packed_array.py` writes them. `bodies.py` has the requests, `routes.py`
the routes, `capabilities.py` says what the service can do.
"""
