"""Rendering: the results of jobs on frames and slices as files that people open: MP4, contact sheet, TIFF stack, label
volume (NIfTI, NRRD, MHA).

In come result lines of a job (masks as run lengths); out come the bytes of a file, part by part.

- `result_index.py`: finds result lines by frame. `source_file.py`: the file that the job worked on.
- `overlay.py`: draws objects over a frame. `mp4.py`: encodes a video. `contact_sheet.py`: some frames on one PNG.
- `label_volume.py`: label maps as NIfTI, NRRD, MHA or ImageJ TIFF. `nifti_file.py`: NIfTI with the source's header.
  `dicom_seg.py`: DICOM SEG.
- `pool.py`: the threads that do this at low priority, and the limit of how many results are rendered.
"""
