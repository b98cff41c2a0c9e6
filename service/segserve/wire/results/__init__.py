"""Results written in the formats that clients ask for; REST, gRPC and the command line send what comes out.

`masks.py` writes the masks of a click (RLE, GeoJSON polygons, PNG, logits), `objects.py` all objects of an image (label
map as PNG, TIFF or npy, overlay, COCO, JSON). `job.py` streams the results of a job, made of the run lengths that the
job keeps: `batch.py` for many images, `frames.py` for frames and slices (NIfTI, MP4, contact sheet), `ctc_tracks.py`
for tracks. `job_formats.py` says which kind of job has which formats.
"""
