"""Files that Pillow decodes (`reader.py`): PNG, JPEG, WebP, BMP, GIF, AVIF, TGA. `bands.py` reads PNG and JPEG band by
band with libvips."""
