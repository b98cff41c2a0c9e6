"""TIFF files, by tifffile and imagecodecs: pages, strips and tiles, channels, photometric interpretation.

`directories.py` checks the chain of pages, `reader.py` opens and decodes a page, `bands.py` reads it band by band,
`plane.py` describes one directory, and `photometric.py` converts stored samples to channels. `contiguous_planes.py`
finds the images of a stack that has one directory. `old_style_jpeg.py` is for compression 6, which libtiff decodes.
`no_liblj92.py` leaves JPEG to libjpeg-turbo alone.
"""
