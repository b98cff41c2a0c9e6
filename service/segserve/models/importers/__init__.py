"""Importers turn checkpoints and published ONNX files into bundles: read, export to ONNX, compare, install.

A checkpoint goes in, a model bundle that its own library agrees with comes out.

    import_checkpoint.py      the entry point: picks the importer, checks its options and libraries
    import_request.py         the kinds of checkpoints, and what one import is asked for
    sam, medsam, lite_medsam, mobile_sam, micro_sam, micro_sam_prompts, sam2, mask_rcnn, unet, transunet, vgg_unet, smp,
    bioimageio, onnx
                              one importer each
    onnx_pair.py, pair_interface.py   an encoder and a decoder in ONNX, by whichever project they were exported
    import_by_template.py     bundles from templates, which `sam` and its kin and `sam2` fill
    sam_network, mobile_sam_network, sam2_network   the libraries' own networks, for `micro_sam` and for training
    read_checkpoint.py        state dicts from untrusted files, without torch: no pickled code runs
    torch_file.py             the tensors of .pt and .pth files
    onnx_file.py, ort_file.py graphs from .onnx and .ort files that hold all of their weights
    load_weights.py           a state dict into a torch network
    package_archive.py        one file out of a wheel or sdist
    safe_unzip.py, zip_packing.py   zip archives from strangers: zip slip, zip bombs
    compare_*.py              the tolerances within which a bundle must agree with its library

`unet`, `transunet`, `smp`, `mask_rcnn`, `micro_sam` and the modules that end in `_network` need torch, the others do
not. So importers are imported when an import begins.
"""
