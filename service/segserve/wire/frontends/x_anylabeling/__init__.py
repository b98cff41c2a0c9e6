"""The protocol of X-AnyLabeling-Server, under /x-anylabeling: models, and shapes for marks or for whole images.

`models.py` says what each model offers there, `predict.py` makes shapes, `shapes.py` writes them, `video.py`
follows objects through videos, `routes.py` has the routes.
"""
