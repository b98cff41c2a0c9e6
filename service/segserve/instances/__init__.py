"""Instance segmentation: objects of known classes on an image, by Mask R-CNN.

A stored image goes in; `ImageObjects` with boxes, classes, scores and masks come out. The steps are torchvision's, and
all but the two ONNX graphs of the network (`models/instances_model.py`) run in numpy here.

    image -> preprocess -> detection graph -> box_nms -> mask graph -> paste_masks

- `segmenter.py`: `InstanceSegmenter`, all steps from an image id to the rendered answer; the options of a request.
- `preprocess.py`: resize by min_size and max_size, normalise, pad to multiples of 32.
- `box_nms.py`: which boxes are objects: score threshold, NMS per class, maximum number of objects.
- `paste_masks.py`: the mask of a box becomes a mask of the image.
"""
