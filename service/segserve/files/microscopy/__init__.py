"""Files of microscopes that hold several images: CZI, LIF, ND2 and zips of OME-Zarr, as pictures and as stacks.

`microscope_file.py` has what all of them share, `open_microscope_file.py` chooses the reader. They are read in
sandboxed processes only. CZI needs a library, which comes with the extra `microscopy`.
"""
