"""Images: uploaded bytes in, RGB pixels [H, W, 3] uint8 as models see them out.

`read_image.py` decodes PNG, JPEG, WebP, BMP (`raster/`) and TIFF (`tiff/`); `normalise.py` makes values of any dtype
8-bit (min-max, percentiles), and `orientation.py` applies EXIF orientation. `fetch_url.py` downloads an image from an
allowed host. `image_library.py` adds, deletes and expires stored images. Large images are read in bands
(`streaming_percentiles.py`) and stored as a tile pyramid (`build_pyramid.py`, `tile_pyramid.py`). `region_reader.py`
reads a stored image or a region of it; `tiling.py` has the tile grid with halos.
"""
