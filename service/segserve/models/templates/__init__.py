"""Architectures as ONNX graphs without weights: a checkpoint's tensors fill them, and no torch is needed.

The initialisers of a template carry the checkpoint's own names. What a bundle's graphs derive from weights (merged
norms, transposes, the folds of the fast decoder) are nodes of the template; they are folded when it is filled.

    data/               the templates, compressed; `make templates` writes them (`models.export.write_templates`)
    architectures.py    which templates make up an architecture, and its manifest
    graph_template.py   read, write and fill a template
    fold_constants.py   compute what depends on weights alone
"""
