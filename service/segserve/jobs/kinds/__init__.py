"""The kinds of jobs: each opens a stored request and makes its chunks.

- `batch.py`, `batch_images.py`, `server_folder.py`: one operation on many images, from uploads, a zip or a folder of
  the server.
- `propagation.py`, `propagation_plan.py`: objects through a video or volume, by one of two engines:
  `sam2_memory_engine.py` (SAM 2's memory) or `projection_engine.py` (the mask of one slice prompts the next).
- `segment_then_join.py`, `slice_labels.py`: all objects of every slice, then `volume_merging.py` (objects of a volume)
  or `cell_tracking.py` (tracks through a video).
- `job_requests.py`: the requests, as they are stored. `result_lines.py`: masks in result lines.
"""
