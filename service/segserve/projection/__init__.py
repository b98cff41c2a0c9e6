"""Propagation by projection: the mask of one slice becomes the prompt on the next slice, as in micro-SAM. It works with
every promptable model.

In come prompts on some slices of a video or volume; out come masks of each object on every slice.

- `slice_order.py`: plans the order of slices for each object, forward and backward.
- `mask_to_prompt.py`: turns a mask into a box, points or a mask prompt.
- `object_evidence.py`: measures what a slice shows of an object: contrast, and its descriptor.
- `object_search.py`: finds where an object went between two frames, by the embedding's cells and by pixels.
- `follow_motion.py`: follows objects that move through a video (crossing, occlusion, leaving the frame).
- `propagate.py`: decodes slice after slice, and stops an object where it ends (IoU, score, contrast and likeness).
"""
