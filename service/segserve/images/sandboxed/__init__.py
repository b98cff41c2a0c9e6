"""Formats that only a sandboxed process decodes: HEIC, JPEG 2000, JPEG XL, PNM, PSD, and rare kinds of JPEG.

Each module checks the size that the header states before it decodes, and takes the file's pixels at once
(`whole_image.py`). GIF, AVIF and TGA are decoded by Pillow, in `raster/reader.py`; `open_any_image.py` chooses.
"""
