"""Uploaded files that are more than one image: videos, stacks of frames, volumes, and zips of pictures.

`file_library.py` adds and deletes them; `direct_uploads.py` has large ones sent straight to the object store, by signed
URLs. `file_readers.py` reads them, each in a sandboxed process whose code is
`reader_process.py`. Only there run `probe_file.py`, which finds out what a file holds before it is stored, and the
readers that `open_file.py` chooses from: `video.py` (PyAV), `tiff_stack.py`, `zip_archive.py` (guards against zip
bombs), `volume_file.py` (NIfTI, Analyze, NRRD, MetaImage, MGH), `volume_zip.py` (volumes and pairs in a zip), and
`dicom/` (DICOM by pydicom and imagecodecs). `volume_headers/` says what each header means; `voxel_data.py` reads the
voxels behind it, and refuses files that end early. `file_contents.py` chooses one of several series. `match_grid.py`
turns labels to the grid of a scan.

`detect_format.py`, `video_format.py` and `volume_format.py` recognise formats by content. `frames.py` brings frames to
8 bits and `volume_slices.py` cuts a volume along an axis with an intensity window. `file_view.py` and `slice_reader.py`
present any of these as slices RGB [H, W, 3], read one at a time.
"""
