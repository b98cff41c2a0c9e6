"""Importers turn checkpoints and published ONNX files into bundles: read, export to ONNX, compare, install.

A checkpoint goes in, a model bundle that its own library agrees with comes out.

    import_checkpoint.py      the entry point: picks the importer, checks its options and libraries
    import_request.py         the kinds of checkpoints, and what one import is asked for
    sam, medsam, mobile_sam, micro_sam, sam2, mask_rcnn, unet, smp, bioimageio, onnx
                              one importer each; `onnx_pair` copies a published encoder and decoder
    read_checkpoint.py        state dicts from untrusted files: no pickled code runs
    safe_unzip.py             zip archives from strangers: zip slip, zip bombs
    compare_*.py              the tolerances within which a bundle must agree with its library

Most importers need torch, so they are imported when an import begins.
"""
