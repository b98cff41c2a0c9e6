"""Semantic segmentation: a class for every pixel of an image, by a U-Net or a similar network.

A stored image goes in; a `ClassMap` [H, W] with the area of every class comes out.

    image -> preprocess -> sliding_window (with tta) -> probabilities -> class_map -> postprocess

- `segmenter.py`: `SemanticSegmenter`, all steps from an image id to the rendered answer.
- `options.py`: the options of a request, and the limits that they must keep.
- `preprocess.py`, `clahe.py`: grey, CLAHE (local contrast), normalisation by fixed values, percentiles or z-score.
- `sliding_window.py`, `tta.py`: overlapping tiles blended into one result; test-time augmentation by flips.
- `class_map.py`: thresholds, argmax, class names and areas.
- `crf.py`, `postprocess.py`, `morphology.py`: dense CRF; connected components by size; opening, closing, hole filling.
"""
