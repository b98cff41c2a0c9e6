"""Files of microscopes that hold several images: CZI of ZEISS (`czi.py`), as pictures and as stacks.

They are read in sandboxed processes only. Their libraries come with the extra `microscopy`.
"""
