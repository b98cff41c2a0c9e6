"""The protocol of samapi, under /sam/, which QuPath's extension for SAM (qupath-extension-sam) speaks.

`choose_model.py` finds the model that a request means, `bodies.py` has the requests, `routes.py` the routes,
`sequences.py` follows objects through pictures. Answers are GeoJSON features, in pixels of the image that was
sent, with all parts and holes.
"""
