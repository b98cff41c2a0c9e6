"""segserve: encode an image once, then answer every prompt on it in milliseconds."""
