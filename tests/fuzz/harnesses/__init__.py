"""Harnesses: one for each reader of our own, in modules by what is read. `all_harnesses.py` lists them."""
