"""The headers of volume formats, one module each: what they say about the voxels, and about their place in space.

- `nifti.py`: NIfTI-1 and NIfTI-2, alone or as a pair, and Analyze, by nibabel.
- `mgh.py`: FreeSurfer's MGH and MGZ, by nibabel.
- `nrrd.py`, `metaimage.py`: NRRD and MetaImage, attached or detached.
- `packed_array.py`: arrays as nnInteractive's client sends them.
- `volume_header.py`: `VolumeHeader`, which all of them return. `text_header.py`: fields of headers in text.
"""
