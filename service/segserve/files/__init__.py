"""Uploaded files that are more than one image: videos, stacks of frames, volumes, and zips of pictures.

`detect_format.py` recognises a file's format by its content; `probe_file.py` finds out what it holds before it is
stored by `file_library.py`. Readers: `video.py` (PyAV), `tiff_stack.py`, `zip_archive.py` (guards against zip bombs),
and `volume.py` with `volume_format.py` (NIfTI, NRRD, MetaImage, DICOM series by SimpleITK). `frames.py` brings frames
to 8 bits and `volume_slices.py` cuts a volume along an axis with an intensity window. `file_view.py` and
`slice_reader.py` present any of these as slices RGB [H, W, 3], read one at a time.
"""
