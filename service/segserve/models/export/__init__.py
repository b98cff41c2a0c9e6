"""Torch networks to the ONNX graphs of a bundle. Needs torch and onnx, so serving does not import it.

A network in eval mode goes in, a folder with graphs and a manifest comes out.

    sam.py, sam2.py, mask_rcnn.py, semantic.py    one exporter for each kind of model
    fast_decoder.py      SAM's mask decoder, rewritten to be fast and exact
    ais_decoder.py       the decoder for automatic instance segmentation
    torch_to_onnx.py     torch.onnx.export with our options; weights stored as fp16
    fp16.py              an encoder that computes in fp16, for GPUs
    batch_norm.py, instance_norm.py    norms folded away or written out
"""
