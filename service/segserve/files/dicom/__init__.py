"""DICOM: a zip of files (series, studies, a patient's CD) or one file, as volumes and as frames (PS3.3, PS3.5, PS3.10).

The way of a file: `read_header.py` reads each header once, by pydicom; `functional_groups.py` and `siemens_mosaic.py`
take multi-frame objects and mosaics apart. `scan_files.py` does so for all files of an archive and counts those that
hold no image. `group_series.py` puts images together that belong together (series, orientation, size, time);
`slice_positions.py` checks that their positions are unique and evenly spaced, and tells what is missing.
`stored_frames.py` reads and decodes one frame, `decode_codestream.py` a compressed one, by imagecodecs;
`grayscale.py` makes values and shades of it. `dicom_file.py` presents all this as a `DicomVolume` or `DicomFrames`,
`dicom_picture.py` one frame as a picture;
`source_instances.py` says which instances a volume's slices came from, for results that refer to them.

Nothing is guessed and no geometry is averaged: what cannot be a volume is refused with what was found.
Everything here runs in a sandboxed process only, but `source_instances.py`, which parses nothing.
"""
