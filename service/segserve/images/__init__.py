"""Images: uploaded bytes in, RGB pixels [H, W, 3] uint8 as models see them out.

`formats.py` lists the formats and recognises them. `read_image.py` decodes PNG, JPEG, WebP, BMP (`raster/`) and TIFF
(`tiff/`). `open_any_image.py` opens the formats whose decoding no check of the header bounds (`sandboxed/`); it runs in
sandboxed processes only, and what they decode is stored by `decoded_image.py`. `normalise.py` makes values of any dtype
8-bit (min-max, percentiles), and `orientation.py` applies EXIF orientation. `fetch_url.py` downloads an image from an
allowed host. `memory_estimate.py` says from the header how much memory decoding takes. `image_library.py` adds, deletes
and expires stored images. Large images are read in bands (`streaming_percentiles.py`) and stored as a tile pyramid
(`build_pyramid.py`, `tile_pyramid.py`). `region_reader.py` reads a stored image or a region of it; `tiling.py` has the
tile grid with halos.

How long decoding takes is bounded too, whatever a file holds: by its pixels, and by the MAX_ constants of its format's
module for what costs time without adding pixels (scans, chunks, strips and tiles, run lengths, frames). An image that
is not tiled takes at most some five seconds on one core. A tiled one may take minutes: they are stored one at a time,
in a thread of their own.
"""
