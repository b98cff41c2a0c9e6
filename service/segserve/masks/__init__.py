"""Binary masks and label maps: computed from logits, measured, and encoded.

`upscale.py` turns a decoder's low-res logits into a mask of the original image (bilinear resizing). `crop.py` keeps a
mask as the part of the image that holds ones. `geometry.py` has IoU, bounding box and deepest pixel; `nms.py` has
non-maximum suppression (NMS); `simulated_prompts.py` clicks on masks as an annotator would. Encodings: `rle.py` (COCO
run lengths), `polygon.py` (GeoJSON), `png.py` (1-bit PNG) and `label_map.py` (instance label maps as PNG, TIFF, npy
and coloured overlay).
"""
