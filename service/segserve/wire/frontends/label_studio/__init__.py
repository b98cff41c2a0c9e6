"""The protocol of Label Studio's ML backends, under /label-studio: clicks, whole images, objects on videos.

`bodies.py` has the requests, `connections.py` what a project has told by its setup, `label_config.py` reads label
configs. `site.py` speaks to Label Studio itself, `task_media.py` fetches the images and videos of tasks. `prompts.py`
reads what annotators have drawn, `predict.py` answers it, `results.py` writes masks as regions, brushes by
`brush_rle.py`. `video.py` follows objects, `precompute.py` encodes a project's images before somebody clicks,
`routes.py` has the routes.
"""
