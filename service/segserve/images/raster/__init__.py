"""PNG, JPEG, WebP and BMP files: `reader.py` decodes with Pillow, `bands.py` reads band by band with libvips."""
