"""segserve: encode an image once, then answer every prompt on it in milliseconds."""

# The only place of the version: pyproject.toml reads it here.
__version__ = "0.2.0"
